"""A world whose service is the demonstration's: cases in, a label and two probabilities out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from s3ml.wire.oip import OIPError, Tensor
from tests.client.world import TRUST, World

FEATURES = 5
CASES = 12


def make_tumours(world: World) -> None:
    """Make `world` serve one model, `tumours`."""
    world.models = ("tumours",)
    world.loaded = {"tumours"}
    world.metadata = {
        "name": "tumours",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
        "outputs": [],
    }
    world.evaluate = classified


def classified(tensor: Tensor) -> tuple[Tensor, ...]:
    rows = tensor.array
    if rows.ndim != 2 or rows.shape[1] != FEATURES:
        raise OIPError(f"{tensor.name}: expected FP32 [-1, {FEATURES}], got {list(rows.shape)}")
    share = (rows.sum(axis=1) / (1 + rows.sum(axis=1))).astype(np.float32)
    return (
        replace(tensor, name="label", datatype="INT64", array=(share > 0.5).astype(np.int64)),
        replace(tensor, name="probabilities", array=np.stack([1 - share, share], axis=1)),
    )


def furnish(folder: Path) -> None:
    """Write what somebody has who follows the guide: cases, a trust file, credentials."""
    rng = np.random.default_rng(0)
    columns = [f"x{place}" for place in range(FEATURES)]
    pd.DataFrame(rng.random((CASES, FEATURES)), columns=columns).to_csv(folder / "rows.csv", index=False)
    TRUST.write(folder / "trust.toml")
    (folder / "token.jwt").write_text("e30.e30.e30\n")
