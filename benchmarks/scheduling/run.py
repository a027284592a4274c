"""Run the simulated scheduling experiments and draw them: part of ``make bench-scheduling``.

They need nothing but processor time: about ten minutes of one core. ``PROCESSES`` in the environment says how
many runs are made at once; as many as there are cores otherwise.

Usage: ``python -m benchmarks.scheduling.run [--quick] [--only E2] [--output DIR]``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scheduling import results
from benchmarks.scheduling.decision_cost import cost
from benchmarks.scheduling.simulated_ablation import ablation
from benchmarks.scheduling.simulated_capacity import capacity
from benchmarks.scheduling.simulated_interference import calm, interference
from benchmarks.scheduling.simulated_moving import moving
from benchmarks.scheduling.simulated_signals import signals
from benchmarks.summaries import RESULTS

REPOSITORY = Path(__file__).resolve().parents[2]
SIMULATED: Mapping[str, Callable[..., dict[str, Any]]] = {
    "E1": signals,
    "E2": interference,
    "E3": calm,
    "E4": moving,
    "E5": capacity,
    "E10": ablation,
    "E11": cost,
}


def run(names: Sequence[str], output: Path, *, is_quick: bool) -> None:
    """Run simulated experiments one after the other, keep each result, and print its verdicts."""
    for number, name in enumerate(names, start=1):
        print(f"[{number}/{len(names)}] {name}, simulated", flush=True)
        found = SIMULATED[name](is_quick=is_quick)
        results.keep(found, output)
        print(results.show(found), flush=True)


def main() -> int:
    """Take the arguments; end with 1 only where something could not run, whatever the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--only", choices=SIMULATED, action="append", help="leave the others out")
    parser.add_argument("--output", type=Path, help="folder of the results; a quick run keeps none")
    options = parser.parse_args()
    names = options.only or list(SIMULATED)
    began_s = time.monotonic()
    if options.quick and options.output is None:
        with tempfile.TemporaryDirectory() as folder:
            run(names, Path(folder), is_quick=True)
    else:
        output = (options.output or RESULTS).absolute()
        run(names, output, is_quick=options.quick)
        if output == RESULTS:
            for module in ("benchmarks.plots", "benchmarks.tables"):
                subprocess.run([sys.executable, "-m", module], cwd=REPOSITORY, check=True)
    print(f"{results.NOTES[results.Kind.SIMULATION]}. {time.monotonic() - began_s:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
