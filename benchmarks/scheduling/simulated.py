"""What the simulated experiments share: fleets, load, what the policies know beforehand, and running many.

Fixed before any policy was measured in them, and the same for every policy.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any

from benchmarks.scheduling.summaries import summarise
from benchmarks.summaries import percentile
from s3ml.scheduling.balancer import Choice, Policy, Shares, View
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.scheduling.balancer.policies.predicted import Predicted
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import Sample, fit_curve, learn_limit
from s3ml.simulator import Arrivals, Episode, Fleet, Outcome, Scenario, Work, simulate
from s3ml.tee_memory.reading import PAGE_BYTES

SEEDS = (301, 302, 303, 304, 305)
"""No choice in a policy was made on these: they ran once the policies stood."""
NAMES = tuple(POLICIES)
FOREVER_S = 1e6
WARMUP_S = 2.0
_MIB_PAGES = 256
_PROFILE_S = 30.0
_HEADROOMS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A fleet with its load.

    Args:
        name: In results.
        fleet: Nodes and replicas.
        rate_per_s: Requests in a second, for the whole fleet.
        objective_s: What p99 shall stay under.
        disturbed: The places of the nodes that an antagonist disturbs throughout.
    """

    name: str
    fleet: Fleet
    rate_per_s: float
    objective_s: float
    disturbed: tuple[int, ...]

    @property
    def hot_pages(self) -> float:
        """The hot set of one replica."""
        return self.fleet.work.hot_pages

    def antagonist(self, node: int, begins_s: float = 0.0, ends_s: float = FOREVER_S) -> Episode:
        """Return one that sweeps 1.2 times a replica's hot set, four times a second if paging lets it."""
        return Episode(
            node=node, begins_s=begins_s, ends_s=ends_s, pages=1.2 * self.hot_pages, sweeps_per_s=4.0
        )


def _fleet(*, nodes: int, replicas: int, cores: float, compute_s: float, hot_mib: int) -> Fleet:
    """Return a fleet whose nodes have room for every replica's hot set, and 40 % of one beside."""
    hot_pages = float(hot_mib * _MIB_PAGES)
    return Fleet(
        nodes=nodes,
        replicas_per_node=replicas,
        cores=cores,
        capacity_pages=(replicas + 0.4) * hot_pages,
        work=Work(compute_s=compute_s, cv=0.1, hot_pages=hot_pages),
    )


SMALL = Size(
    name="small",
    fleet=_fleet(nodes=3, replicas=2, cores=0.5, compute_s=0.006, hot_mib=24),
    rate_per_s=100.0,
    objective_s=0.1,
    disturbed=(0,),
)
"""As large as the emulated fleet: 3 nodes of half a core, 2 replicas each; 40 % of the cores asked for."""
CLUSTER = Size(
    name="cluster",
    fleet=_fleet(nodes=20, replicas=4, cores=4.0, compute_s=0.04, hot_mib=62),
    rate_per_s=1000.0,
    objective_s=0.5,
    disturbed=(0, 4, 8, 12, 16),
)
"""20 nodes of 4 cores, 4 replicas each; half of the cores asked for, a quarter of the nodes disturbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to make.

    Args:
        policy: A name of `POLICIES`, or of a variant below.
        scenario: What is simulated.
        size: For the objective and what the policy knows beforehand.
        seed: Of the run.
        labels: More to say of it in its row.
    """

    policy: str
    scenario: Scenario
    size: Size
    seed: int
    labels: Mapping[str, Any] = field(default_factory=dict)


class _Blindfolded:
    """A policy that is kept from seeing something of a view."""

    def __init__(self, policy: Policy, blindfold: Callable[[View], View]) -> None:
        self.name = policy.name
        self._policy = policy
        self._blindfold = blindfold

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose without what is hidden."""
        return self._policy.pick(self._blindfold(view), draw)

    def shares(self, view: View) -> Shares:
        """Divide without what is hidden."""
        return self._policy.shares(self._blindfold(view))


def _without_readings(view: View) -> View:
    return replace(view, nodes={}, replicas=tuple(replace(one, own=None) for one in view.replicas))


def _without_timings(view: View) -> View:
    replicas = tuple(
        replace(one, latency_s=None, service_s=None, answered_at_s=None, oldest_s=0.0)
        for one in view.replicas
    )
    return replace(view, replicas=replicas)


VARIANTS: Mapping[str, Callable[[Model], Policy]] = {
    "s3ml without readings": lambda model: _Blindfolded(Predicted(model=model), _without_readings),
    "s3ml without timings": lambda model: _Blindfolded(Predicted(model=model), _without_timings),
    "s3ml without the guard": lambda model: Predicted(model=model, hot_quantile=1.0),
    "s3ml without exploration": lambda model: Predicted(model=model, explored=0.0),
    "s3ml without damping": lambda model: Predicted(model=model, rise=1.0, fall=1.0),
}
"""The policy `s3ml` less one of its terms, for the ablation."""


def policy_of(name: str, model: Model) -> Policy:
    """Return a policy or a variant by its name."""
    return VARIANTS[name](model) if name in VARIANTS else policy_named(name, model)


def scenario_of(size: Size, *, cv: float, duration_s: float, episodes: Iterable[Episode] = ()) -> Scenario:
    """Return a run of a fleet under its own load, picked one by one.

    The first two seconds warm up, or half of a shorter run: an antagonist's coming is E4's question.
    """
    return Scenario(
        fleet=size.fleet,
        arrivals=Arrivals(rate_per_s=size.rate_per_s, cv=cv),
        duration_s=duration_s,
        warmup_s=min(WARMUP_S, duration_s / 2),
        episodes=tuple(episodes),
    )


@cache
def learned(name: str) -> Model:
    """Return what policies know of a fleet's model beforehand, learned offline on one node of it.

    The curve from runs of one node at fixed sizes of its TEE memory; the cost of a page from their
    latencies; the paging limit of the paper's policy from the same runs, by the objective. Seeds are others
    than those reported.
    """
    size = {one.name: one for one in (SMALL, CLUSTER)}[name]
    fleet = replace(size.fleet, nodes=1)
    hot_pages = fleet.replicas_per_node * size.hot_pages
    rate_per_s = size.rate_per_s / size.fleet.nodes
    samples, limits, costs = [], [], []
    for headroom in _HEADROOMS:
        alone = _profiled(replace(fleet, capacity_pages=headroom * hot_pages), rate_per_s / 32)
        pages = alone.page_ins / len(alone.requests)
        samples.append(Sample(headroom=headroom, pages=pages))
        if pages > size.hot_pages / 20:
            mean_s = sum(alone.latencies_s) / len(alone.requests)
            costs.append((mean_s - _compute_s(size)) / pages)
        loaded = _profiled(replace(fleet, capacity_pages=headroom * hot_pages), rate_per_s, watched_s=2.0)
        limits += [
            (row.page_ins_per_s, percentile(row.latencies_s, 0.99)) for row in loaded.seen if row.latencies_s
        ]
    return Model(
        compute_s=_compute_s(size),
        curve=fit_curve(samples),
        hot_set_bytes=round(size.hot_pages) * PAGE_BYTES,
        page_cost_s=percentile(costs, 0.5),
        paging_limit_per_s=learn_limit(limits, objective_s=size.objective_s),
    )


def _compute_s(size: Size) -> float:
    """Return what a request alone takes: less than a core stretches it."""
    return size.fleet.work.compute_s / min(1.0, size.fleet.cores)


def _profiled(fleet: Fleet, rate_per_s: float, watched_s: float = 0.0) -> Outcome:
    scenario = Scenario(
        fleet=fleet,
        arrivals=Arrivals(rate_per_s=rate_per_s),
        duration_s=_PROFILE_S,
        warmup_s=_PROFILE_S / 10,
        watched_s=watched_s,
    )
    return simulate(scenario, policy_named("round-robin"), seed=7)


def outcome_of(job: Job) -> Outcome:
    """Make a run."""
    return simulate(job.scenario, policy_of(job.policy, learned(job.size.name)), seed=job.seed)


def row_of(job: Job) -> dict[str, Any]:
    """Make a run and return its row for the results."""
    return row(job, outcome_of(job))


def row(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Return the row of a run: who, what, and its summary."""
    arrivals = job.scenario.arrivals
    return {
        "policy": job.policy,
        "seed": job.seed,
        "arrivals": f"CV {arrivals.cv:g}",
        "rate_per_s": arrivals.rate_per_s,
        "steering": job.scenario.steering.value,
        "size": job.size.name,
        **job.labels,
        **summarise(outcome.latencies_s, objective_s=job.size.objective_s, pages=outcome.page_ins),
    }


def run_all(what: str, make: Callable[[Job], Any], jobs: Sequence[Job]) -> list[Any]:
    """Make all runs, telling how far they are; in their order.

    On as many processes as there are cores, or as `PROCESSES` in the environment says; 1 makes them here.
    """
    for size in {job.size.name for job in jobs}:
        learned(size)
    processes = int(os.environ.get("PROCESSES", os.cpu_count() or 1))
    if processes == 1:
        return _told(what, map(make, jobs), len(jobs))
    with ProcessPoolExecutor(processes) as pool:
        return _told(what, pool.map(make, jobs, chunksize=4), len(jobs))


def _told(what: str, made: Iterable[Any], count: int) -> list[Any]:
    found: list[Any] = []
    began_s = time.monotonic()
    for number, one in enumerate(made, start=1):
        found.append(one)
        if number % max(1, count // 10) == 0 or number == count:
            took_s = time.monotonic() - began_s
            print(f"  {what}: {number} of {count} runs, {took_s:.0f} s", flush=True)
    return found


def settings_of(size: Size) -> dict[str, Any]:
    """Return a fleet's settings, for results."""
    fleet, model = size.fleet, learned(size.name)
    return {
        "nodes": fleet.nodes,
        "replicas_per_node": fleet.replicas_per_node,
        "cores_per_node": fleet.cores,
        "compute_ms": 1e3 * fleet.work.compute_s,
        "compute_cv": fleet.work.cv,
        "hot_mib": size.hot_pages / _MIB_PAGES,
        "capacity_mib": round(fleet.capacity_pages / _MIB_PAGES, 1),
        "page_us": 1e6 * fleet.page_s,
        "rate_per_s": size.rate_per_s,
        "objective_ms": 1e3 * size.objective_s,
        "disturbed_nodes": list(size.disturbed),
        "antagonist_mib": round(1.2 * size.hot_pages / _MIB_PAGES, 1),
        "learned": {
            "page_cost_us": round(1e6 * model.page_cost_s, 2),
            "paging_limit_per_s": model.paging_limit_per_s,
        },
    }
