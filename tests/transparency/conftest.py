from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transparency.live_witness import Live


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    yield made
    made.stop()
