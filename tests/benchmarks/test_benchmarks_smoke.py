"""The benchmarks still run from end to end, and the README's tables are those of the results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"


class TestScripts:
    """Each script runs with tiny counts and writes what it measured."""

    @pytest.mark.integration
    @pytest.mark.timeout(900)
    def test_a_quick_run_writes_every_result(self, tmp_path: Path) -> None:
        command = [sys.executable, "benchmarks/run.py", "--quick", "--json", "--output", str(tmp_path)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        for name in ("attestation", "seal", "memory", "trust", "client", "keyservice_storage", "keyservice"):
            document = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
            assert document["aims"] == told[name]
            assert document["is_quick"] is True
            assert document["machine"]["cores"] >= 1


class TestFigures:
    """What is shown was measured in full, and is shown as it was measured."""

    def test_the_tables_of_the_readme_are_those_of_the_results(self) -> None:
        command = [sys.executable, "-m", "benchmarks.tables", "--check"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        "name",
        ["attestation", "seal", "memory", "trust", "client", "keyservice_storage", "keyservice", "serving"],
    )
    def test_no_result_of_a_quick_run_is_kept(self, name: str) -> None:
        document = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))

        assert document["is_quick"] is False

    def test_plots_are_small(self) -> None:
        sizes_bytes = {path.name: path.stat().st_size for path in RESULTS.glob("*.png")}

        assert sizes_bytes
        assert max(sizes_bytes.values()) < 100_000
