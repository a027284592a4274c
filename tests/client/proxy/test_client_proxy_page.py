"""docs/proxy.md tells the statuses as they are."""

import re
from pathlib import Path

import pytest

from s3ml.client.proxy.rpc import status_code

PAGE = (Path(__file__).parents[3] / "docs" / "proxy.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .+? \| (\d{3}) \| `([A-Z_]+)`", PAGE, re.MULTILINE)


class TestStatuses:
    def test_the_table_is_there(self) -> None:
        assert len(ROWS) == 10

    @pytest.mark.parametrize(("status", "name"), ROWS)
    def test_each_is_the_code_of_its_status(self, status: str, name: str) -> None:
        assert status_code(int(status)).name == name
