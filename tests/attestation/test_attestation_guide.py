"""The blocks of docs/attestation.md run, in the order in which somebody would run them."""

import re
from pathlib import Path
from typing import Any

import pytest

from s3ml.attestation.verify.steps import STEPS

GUIDE = (Path(__file__).parents[2] / "docs" / "attestation.md").read_text(encoding="utf-8")
ORDER = ("simulate", "verify", "steps", "policies")


def block(name: str) -> str:
    """Return the guide's block of that name."""
    found = re.search(rf"<!-- attestation: {name} -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    assert found, f"docs/attestation.md has no block {name!r}"
    return found[1]


class TestGuide:
    def test_every_block_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {}
        for name in ORDER:
            exec(compile(block(name), name, "exec"), names)  # noqa: S102 - our own documentation
        told = capsys.readouterr().out
        assert "simulated tdx" in told
        assert len(re.findall(r"^\d+ holds ", told, re.MULTILINE)) == len(STEPS)
        assert "sev-snp" in told

    def test_no_block_is_left_out(self) -> None:
        assert set(re.findall(r"<!-- attestation: (\w+) -->", GUIDE)) == set(ORDER)
