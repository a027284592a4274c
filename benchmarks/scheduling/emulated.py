"""What the emulated experiments share: sizes, load, and rows of results as the simulated ones have them.

Fixed before any policy was measured, and the same for every policy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.machine import busy_s
from benchmarks.scheduling.children import Child
from benchmarks.scheduling.emulated_calibration import OBJECTIVE_S, Calibration
from benchmarks.scheduling.emulated_nodes import Shape, Site
from benchmarks.scheduling.emulated_runs import Ask, Run, measure
from benchmarks.scheduling.load import GRACE_S
from benchmarks.scheduling.summaries import summarise
from s3ml.primitives.units import MIB

SEEDS = (101, 102, 103, 104, 105)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the emulated experiments run.

    Args:
        shape: Of the fleet: 64 MiB are 1.3 times what two model servers keep there, so that nothing pages
            until an antagonist as large as all of it comes.
        rate_per_s: Requests in a second, for the whole fleet: about half of what the machine bears.
        sweeps_per_s: Of an antagonist that is on.
        lasting_s: Of one run.
        warmup_s: Of that, what is not counted.
        seeds: Of the arrivals.
        is_quick: A smoke run: its figures mean nothing.
    """

    shape: Shape = field(
        default_factory=lambda: Shape(
            nodes=3, replicas=2, cores=0.5, epc_bytes=64 * MIB, antagonist_bytes=64 * MIB
        )
    )
    rate_per_s: float = 120.0
    sweeps_per_s: float = 2.0
    lasting_s: float = 10.0
    warmup_s: float = 1.5
    seeds: tuple[int, ...] = SEEDS
    is_quick: bool = False

    @property
    def described(self) -> dict[str, Any]:
        """For results."""
        return {
            **asdict(self.shape),
            "rate_per_s": self.rate_per_s,
            "sweeps_per_s": self.sweeps_per_s,
            "lasting_s": self.lasting_s,
            "warmup_s": self.warmup_s,
            "objective_ms": 1e3 * OBJECTIVE_S,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an experiment on a whole fleet is given.

    Args:
        settings: How it runs.
        calibration: What was measured of the model.
        site: The fleet.
        load: Makes the load.
    """

    settings: Settings
    calibration: Calibration
    site: Site
    load: Child

    def run(
        self, *, cv: float, seed: int, disturbances: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> tuple[Run, dict[str, Any]]:
        """Make one run; return it, and what is known of the machine meanwhile."""
        asked = self.settings
        ask = Ask(
            rate_per_s=asked.rate_per_s,
            cv=cv,
            lasting_s=asked.lasting_s,
            warmup_s=asked.warmup_s,
            seed=seed,
        )
        before_s = busy_s()
        found = measure(self.site, self.load, ask, disturbances=disturbances)
        lasted_s = max((one.ended_s or 0.0 for one in found.answers), default=asked.lasting_s)
        busy = (busy_s() - before_s) / max(lasted_s, asked.lasting_s)
        return found, {"busy_cores": round(busy, 2), "sent_late_p99_ms": found.late_ms}


def row_of(run: Run, *, policy: str, seed: int, cv: float, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a run: who, what, and its summary."""
    return {
        "policy": policy,
        "seed": seed,
        "arrivals": f"CV {cv:g}",
        "steering": "picks",
        "size": "emulated",
        **labels,
        **summarise(
            run.latencies_s or [GRACE_S],
            objective_s=OBJECTIVE_S,
            pages=run.pages,
            unanswered=run.unanswered,
        ),
    }


def division(run: Run, *, from_s: float = 0.0, until_s: float = 1e9) -> dict[str, float]:
    """Return the share of the answers by node, of requests meant to be sent in a stretch of a run."""
    counts: dict[str, int] = {}
    for one in run.answers:
        if from_s <= one.intended_s < until_s and one.replica:
            node = one.replica.partition("-")[0]
            counts[node] = counts.get(node, 0) + 1
    total = sum(counts.values())
    return {node: round(count / total, 4) for node, count in sorted(counts.items())}
