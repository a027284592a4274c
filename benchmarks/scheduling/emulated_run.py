"""Run the experiments on emulated nodes, with real processes: root, cgroup version 1 and zram.

The model is calibrated on one node, which E1 has then; E2, E3 and E4 share a fleet. Each result is kept as
soon as it is there. EMULATED: no SGX hardware.

Usage: ``python -m benchmarks.scheduling.emulated_run [--quick] [--only E2] [--output DIR]``.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import machine
from benchmarks.scheduling import results
from benchmarks.scheduling.children import Child
from benchmarks.scheduling.emulated import Bench, Settings
from benchmarks.scheduling.emulated_calibration import RATE_PER_S, Calibration, calibrate
from benchmarks.scheduling.emulated_interference import CVS, calm, interference
from benchmarks.scheduling.emulated_moving import moving
from benchmarks.scheduling.emulated_nodes import Site
from benchmarks.scheduling.emulated_signals import signals
from benchmarks.scheduling.emulated_twin import twin_rows
from benchmarks.scheduling.steered import Steered
from benchmarks.summaries import RESULTS, write
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.units import MIB
from s3ml.tee_memory.emulated import Host, check_host

CALIBRATION = "scheduling-calibration-emulated"
NAMES = ("E1", "E2", "E3", "E4")
_PACES = (1.0, 2.0, 4.0)


def quick(settings: Settings) -> Settings:
    """Return settings of a smoke run."""
    return replace(settings, lasting_s=3.0, warmup_s=0.5, seeds=settings.seeds[:1], is_quick=True)


def run(names: Sequence[str], settings: Settings, output: Path) -> None:
    """Calibrate, and run experiments in the order of `NAMES`."""
    with Site(replace(settings.shape, nodes=1)) as site:
        load = site.start_load()
        calibration = calibrated(settings, site, load, output)
        if "E1" in names:
            keep(signals(settings, calibration, site, load), output)
    disturbed: dict[str, Any] = {}
    if {"E2", "E3", "E4"}.intersection(names):
        with fleet(settings, calibration) as (bench, steered):
            if "E2" in names:
                disturbed = interference(bench, steered)
                keep(disturbed, output)
            if "E3" in names:
                keep(calm(bench, steered), output)
            if "E4" in names:
                keep(moving(bench, steered), output)
    if disturbed:  # The twin computes for a while: after everything that is measured.
        results.keep({**disturbed, "twin": twin_rows(calibration, settings, CVS)}, output)


def calibrated(settings: Settings, site: Site, load: Child, output: Path) -> Calibration:
    """Calibrate the model on the one node of a site, and keep what was found."""
    found = calibrate(
        site,
        load,
        rate_per_s=RATE_PER_S,
        sweeps_per_s=_PACES[1:2] if settings.is_quick else _PACES,
        lasting_s=1.5 if settings.is_quick else 3.0,
    )
    shown = {"note": results.NOTES[results.Kind.EMULATION], "machine": machine.describe()}
    write(output, CALIBRATION, shown | msgspec.to_builtins(found))
    print(
        f"calibrated: {1e3 * found.processor_s:.2f} ms of a processor and {1e3 * found.compute_s:.1f} ms a "
        f"request, hot set {found.hot_set_bytes / MIB:.1f} MiB, {1e6 * found.page_cost_s:.1f} us a page, "
        f"limit {found.model.paging_limit_per_s} pages/s",
        flush=True,
    )
    return found


@contextlib.contextmanager
def fleet(settings: Settings, calibration: Calibration) -> Iterator[tuple[Bench, Steered]]:
    """Start a fleet with its balancer."""
    with Site(settings.shape, is_picking=True) as site, Steered(site, calibration.model) as steered:
        yield Bench(settings=settings, calibration=calibration, site=site, load=site.start_load()), steered


def keep(found: dict[str, Any], output: Path) -> None:
    """Write a result, and print its verdicts."""
    results.keep(found, output)
    print(results.show(found), flush=True)


def main() -> int:
    """Take the arguments; end with 4 where this machine cannot, in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--only", choices=NAMES, action="append", help="leave the others out")
    parser.add_argument("--output", type=Path, help="folder of the results; a quick run keeps none")
    options = parser.parse_args()
    # Otherwise nodes would stay up where this is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began_s = time.monotonic()
    try:
        check_host(Host())
        settings = quick(Settings()) if options.quick else Settings()
        with tempfile.TemporaryDirectory() as nowhere:
            kept = Path(nowhere) if options.quick else RESULTS
            run(options.only or NAMES, settings, (options.output or kept).absolute())
    except S3MLError as error:
        print(f"emulated experiments: {error}", file=sys.stderr)
        return 4
    print(f"{results.NOTES[results.Kind.EMULATION]}. {time.monotonic() - began_s:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
