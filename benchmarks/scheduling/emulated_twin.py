"""The simulated twin of the emulated fleet: the same sizes and load, and costs as they were measured there.

Laid side by side, they show what the model leaves out. SIMULATION; made from a calibration alone.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

from benchmarks.scheduling.emulated import Settings
from benchmarks.scheduling.emulated_calibration import Calibration
from benchmarks.scheduling.summaries import summarise
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.simulator import Arrivals, Episode, Fleet, Scenario, Work, simulate
from s3ml.tee_memory.reading import PAGE_BYTES

SIZE = "simulated twin"
COMPUTE_CV = 0.1


def scenario_of(calibration: Calibration, settings: Settings, *, cv: float, disturbed: int) -> Scenario:
    """Return a run of the twin, with an antagonist on one node throughout; pure."""
    shape = settings.shape
    antagonist = Episode(
        node=disturbed,
        begins_s=0.0,
        ends_s=10 * settings.lasting_s,
        pages=shape.antagonist_bytes / PAGE_BYTES,
        sweeps_per_s=settings.sweeps_per_s,
    )
    return Scenario(
        fleet=Fleet(
            nodes=shape.nodes,
            replicas_per_node=shape.replicas,
            cores=shape.cores,
            capacity_pages=shape.epc_bytes / PAGE_BYTES,
            work=Work(
                compute_s=calibration.processor_s,
                cv=COMPUTE_CV,
                hot_pages=calibration.hot_set_bytes / PAGE_BYTES,
            ),
            page_s=calibration.page_cost_s,
        ),
        arrivals=Arrivals(rate_per_s=settings.rate_per_s, cv=cv),
        duration_s=settings.lasting_s,
        warmup_s=settings.warmup_s,
        episodes=(antagonist,),
    )


def twin_rows(calibration: Calibration, settings: Settings, cvs: Sequence[float]) -> list[dict[str, Any]]:
    """Run every policy on the twin, for each seed and kind of arrivals; a minute or so on one core."""
    rows = []
    for block, (seed, cv) in enumerate(product(settings.seeds, cvs)):
        disturbed = block // len(cvs) % settings.shape.nodes
        scenario = scenario_of(calibration, settings, cv=cv, disturbed=disturbed)
        for policy in POLICIES:
            found = simulate(scenario, policy_named(policy, calibration.model), seed=seed)
            share = sum(found.nodes[one.server] == disturbed for one in found.requests) / len(found.requests)
            rows.append(
                {
                    "policy": policy,
                    "seed": seed,
                    "arrivals": f"CV {cv:g}",
                    "steering": "picks",
                    "size": SIZE,
                    "disturbed_share": round(share, 4),
                    **summarise(found.latencies_s, objective_s=calibration.objective_s, pages=found.page_ins),
                }
            )
    return rows
