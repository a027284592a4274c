"""Medians with their spread, and files of results."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie, interpolated."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summary(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Return the median of repeated measurements, their quartiles, their range and their number."""
    return {
        "median": round(statistics.median(values), digits),
        "quartiles": [round(percentile(values, share), digits) for share in (0.25, 0.75)],
        "range": [round(min(values), digits), round(max(values), digits)],
        "n": len(values),
    }


def write(folder: Path, name: str, document: dict[str, Any]) -> Path:
    """Write a result as ``<name>.json``, in whole or not at all; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    partial = folder / f".{name}.json.{os.getpid()}"
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
