"""Score a file, several requests at once: `python examples/infer_many.py [GATEWAY] [TRUST_FILE]`.

Reads `rows.csv`, which `python examples/train_tumours.py` writes. No more of it is held than what is under
way, and what fails is said without stopping the rest.
"""

import csv
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from s3ml.client import Client, InferFailure

ROWS_EACH = 2


def chunks(path: Path) -> Iterator[dict[str, list[list[float]]]]:
    """Read a file with a heading, a few rows at a time."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        while chunk := [[float(cell) for cell in row] for row in islice(rows, ROWS_EACH)]:
            yield {"x": chunk}


def failed(failure: InferFailure) -> None:
    """Say which rows have no result, and why."""
    print(f"rows from {failure.index * ROWS_EACH}: {failure.error}", file=sys.stderr)


gateway = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
trust = sys.argv[2] if len(sys.argv) > 2 else "trust.toml"  # noqa: PLR2004 - the second argument

with Client(gateway, trust=trust) as s3ml:
    for result in s3ml.infer_many("tumours", chunks(Path("rows.csv")), on_failure=failed):
        for place, label in enumerate(result["label"].tolist()):
            print(f"row {result.index * ROWS_EACH + place}: {label}")
    print(s3ml.statistics)
