"""The key service: releases, trust bundles, commits, scale-out, joins, and how all of it grows.

What is measured is the product's own process over HTTP, with SQLite, PostgreSQL and witnesses as processes of
their own. Enclaves are played; quotes and their verification are real. SIMULATED.

Usage: ``python -m benchmarks.keyservice [--quick] [--output DIR] [--only PART]``.
"""

import argparse
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.keyservice_fleet import yard
from benchmarks.summaries import RESULTS, write

PARTS = ("rates", "commits", "scale", "growth")
RELEASES_PER_S, BUNDLES_PER_S, SCALE_OUT_S, JOIN_S = 400.0, 2000.0, 2.0, 2.0


def aims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each aim, and what was measured."""
    rows: list[dict[str, Any]] = []

    def at_least(aim: str, least: float, got: float) -> None:
        row = {"aim": aim, "unit": "per s of one core", "at_least": least, "got": round(got)}
        rows.append({**row, "is_met": got >= least})

    def below(aim: str, limit: float, got: float) -> None:
        row = {"aim": aim, "unit": "s", "below": limit, "got": round(got, 2)}
        rows.append({**row, "is_met": got < limit})

    for kind, rate in found["rates"]["releases"]["rates"].items():
        if "platform" in kind:
            at_least(f"key releases, {kind}", RELEASES_PER_S, rate["per_busy_s"]["median"])
    for kind, rate in found["rates"]["bundles"]["rates"].items():
        if "quotes" in kind:
            at_least(f"trust bundles, {kind}", BUNDLES_PER_S, rate["per_busy_s"]["median"])
    for count, one in found["scale"]["scale_out"]["replicas"].items():
        below(f"200 model servers have keys, {count} replicas", SCALE_OUT_S, one["all_s"]["median"])
    below("a joined replica serves, after", JOIN_S, found["scale"]["joins"]["serving_s"]["median"])
    for size, one in found["growth"]["PostgreSQL"].items():
        below(f"the same, log of {int(size):,} entries", JOIN_S, one["join"]["serving_s"]["median"])
    return rows


def measure(part: str, *, is_quick: bool) -> dict[str, Any]:
    """Measure one part, with processes of its own; say when and under what load."""
    print(f"key service: {part}", flush=True)
    began, load = time.monotonic(), os.getloadavg()[0]
    module = importlib.import_module(f"benchmarks.keyservice_{part}")
    cores = os.sched_getaffinity(0)
    try:
        with yard() as made:
            found: dict[str, Any] = module.measure(made, is_quick=is_quick)
    finally:
        os.sched_setaffinity(0, cores)
    loads = [round(load, 2), round(os.getloadavg()[0], 2)]
    return {"load_average": loads, "took_s": round(time.monotonic() - began), **found}


def main() -> None:
    """Take the arguments and measure; parts that are left out are kept as they were measured before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it still run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--only", choices=PARTS, action="append", help="renew these parts alone")
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    if options.only:
        kept = json.loads((options.output / "keyservice.json").read_text(encoding="utf-8"))
    document = {"machine": machine.describe(), "is_quick": options.quick}
    parts = {
        part: kept[part]
        if options.only and part not in options.only
        else measure(part, is_quick=options.quick)
        for part in PARTS
    }
    document |= {**parts, "aims": aims(parts)}
    print(f"key service: wrote {write(options.output, 'keyservice', document)}", flush=True)


if __name__ == "__main__":
    main()
