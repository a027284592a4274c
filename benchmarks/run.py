"""Run every benchmark of the product, one after the other: ``make bench``.

Each is a process of its own and writes JSON; the plots follow where matplotlib is installed. What is measured
is SIMULATED: no SGX hardware is used.

Usage: ``python benchmarks/run.py [--quick] [--json] [--only NAME] [--output DIR]``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
BENCHMARKS = ("attestation", "seal", "memory", "trust", "client", "keyservice_storage", "keyservice")
ALONE = ("attestation", "seal", "client", "keyservice_storage", "keyservice")  # they need no deployment


def run(names: Sequence[str], output: Path, *, is_quick: bool, out: TextIO) -> int:
    """Run what was chosen, one after the other, or all at once where quick; return the first failure."""
    modules = [name for name in names if name in ALONE]
    rest = [name for name in names if name not in ALONE]
    modules += ["both"] if len(rest) > 1 else rest
    running = []
    for number, module in enumerate(modules, start=1):
        print(f"[{number}/{len(modules)}] {module}", file=out, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", "--output", str(output)]
        process = subprocess.Popen([*command, *(["--quick"] if is_quick else [])], cwd=REPOSITORY, stdout=out)
        running.append(process)
        if not is_quick and process.wait():
            break
    return next((status for status in [process.wait() for process in running] if status), 0)


def show(name: str, document: dict[str, Any], out: TextIO) -> None:
    """Print each aim of a benchmark, and whether it was met."""
    for aim in document["aims"]:
        verdict = "met" if aim["is_met"] else "MISSED"
        asked = f"below {aim['below']}" if "below" in aim else f"at least {aim['at_least']}"
        print(f"  {name}: {aim['aim']}: {aim['got']} {aim['unit']}; aim: {asked}: {verdict}", file=out)


def main() -> int:
    """Take the arguments; end with 1 when a benchmark could not run, whatever the aims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="leave the others out")
    parser.add_argument("--output", type=Path, help="folder of the results; a quick run keeps none")
    options = parser.parse_args()
    out = sys.stderr if options.json else sys.stdout
    if options.quick and options.output is None:
        with tempfile.TemporaryDirectory() as folder:
            return run_all(options, Path(folder), out)
    return run_all(options, (options.output or RESULTS).absolute(), out)


def run_all(options: argparse.Namespace, output: Path, out: TextIO) -> int:
    """Run what was chosen, draw the plots, bring the README's tables up to date; return the exit status."""
    began, chosen = time.monotonic(), options.only or BENCHMARKS
    if status := run(chosen, output, is_quick=options.quick, out=out):
        print(f"benchmarks: one ended with status {status}; what it said is above", file=out)
        return 1
    results = {name: json.loads((output / f"{name}.json").read_text(encoding="utf-8")) for name in chosen}
    if not options.quick:
        plots = [sys.executable, "-m", "benchmarks.plots", "--output", str(output)]
        subprocess.run(plots, cwd=REPOSITORY, check=True, stdout=out)
    if output == RESULTS:
        subprocess.run([sys.executable, "-m", "benchmarks.tables"], cwd=REPOSITORY, check=True, stdout=out)
    print(f"SIMULATED: no SGX hardware was used. {time.monotonic() - began:.0f} s.", file=out)
    for name, document in results.items():
        show(name, document, out)
    if options.json:
        print(json.dumps({name: document["aims"] for name, document in results.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
