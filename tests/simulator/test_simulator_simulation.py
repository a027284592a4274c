"""Whole runs: against closed forms, against what must hold in any queue, and that they repeat."""

import statistics
from dataclasses import replace

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.simulator import Arrivals, Episode, Fleet, Outcome, Resize, Scenario, Steering, Work, simulate

HOT_PAGES = 4000.0
COMPUTE_S = 0.01


def queue(*, cv: float, rate_per_s: float, duration_s: float) -> Scenario:
    """One server on one node that never pages."""
    work = Work(compute_s=COMPUTE_S, cv=cv)
    return Scenario(
        fleet=Fleet(nodes=1, replicas_per_node=1, cores=1, capacity_pages=1, work=work),
        arrivals=Arrivals(rate_per_s=rate_per_s),
        duration_s=duration_s,
        warmup_s=duration_s / 100,
    )


def disturbed(*, duration_s: float = 20.0, pages: float = 1.2 * HOT_PAGES) -> Scenario:
    """Three nodes of two replicas, one with an antagonist."""
    work = Work(compute_s=COMPUTE_S, cv=0.1, hot_pages=HOT_PAGES)
    return Scenario(
        fleet=Fleet(nodes=3, replicas_per_node=2, cores=2, capacity_pages=2.4 * HOT_PAGES, work=work),
        arrivals=Arrivals(rate_per_s=80),
        duration_s=duration_s,
        warmup_s=2.0,
        episodes=(Episode(node=0, begins_s=0.0, ends_s=1e6, pages=pages, sweeps_per_s=4),),
        watched_s=1.0,
    )


def mean_s(outcome: Outcome) -> float:
    return statistics.fmean(outcome.latencies_s)


class TestClosedForms:
    """Queues whose mean latency is known: Pollaczek and Khinchine, for exponential and for constant work."""

    @pytest.mark.parametrize(("cv", "load"), [(1.0, 0.3), (1.0, 0.7), (0.0, 0.7), (0.5, 0.6)])
    def test_the_mean_latency_is_what_the_formula_says(self, cv: float, load: float) -> None:
        scenario = queue(cv=cv, rate_per_s=load / COMPUTE_S, duration_s=120)
        expected_s = COMPUTE_S * (1 + load / (1 - load) * (1 + cv**2) / 2)

        found = [mean_s(simulate(scenario, policy_named("random"), seed=seed)) for seed in (1, 2)]

        assert statistics.fmean(found) == pytest.approx(expected_s, rel=0.1)


class TestConservation:
    """What must hold in any queue."""

    @pytest.mark.parametrize("steering", Steering)
    def test_each_request_is_answered_once_and_not_before_its_work(self, steering: Steering) -> None:
        scenario = replace(disturbed(), steering=steering, warmup_s=0.0)
        outcome = simulate(scenario, policy_named("s3ml"), seed=3)

        sent = [request.sent_s for request in outcome.requests]
        assert sent == sorted(sent)
        assert len({id(request) for request in outcome.requests}) == len(outcome.requests)
        assert all(0 <= request.server < 6 for request in outcome.requests)
        assert min(outcome.latencies_s) > COMPUTE_S / 3
        assert max(request.answered_s for request in outcome.requests) <= outcome.ended_s

    def test_answers_of_one_replica_come_in_the_order_of_sending(self) -> None:
        outcome = simulate(disturbed(), policy_named("round-robin"), seed=3)

        for place in range(6):
            answered = [one.answered_s for one in outcome.requests if one.server == place]
            assert answered == sorted(answered)

    def test_littles_law_holds(self) -> None:
        """Requests in flight in the mean are the rate times the mean latency; both are measured apart."""
        scenario = replace(disturbed(duration_s=60.0), watched_s=0.01, warmup_s=0.0)
        outcome = simulate(scenario, policy_named("power-of-two"), seed=5)

        in_flight = sum(row.in_flight for row in outcome.seen) / (len(outcome.seen) / 3)
        rate_per_s = len(outcome.requests) / outcome.ended_s
        assert in_flight == pytest.approx(rate_per_s * mean_s(outcome), rel=0.05)

    def test_pages_that_nodes_brought_back_cover_those_of_requests(self) -> None:
        scenario = replace(disturbed(), warmup_s=0.0, watched_s=0.5)
        outcome = simulate(scenario, policy_named("round-robin"), seed=3)

        of_nodes = sum(row.page_ins_per_s * 0.5 for row in outcome.seen)
        assert 0 < outcome.page_ins < of_nodes


class TestPaging:
    """A node whose TEE memory is too small is slow, and only that node."""

    def test_an_antagonist_slows_its_own_node(self) -> None:
        outcome = simulate(disturbed(), policy_named("round-robin"), seed=3)
        by_node: dict[int, list[float]] = {0: [], 1: [], 2: []}
        for request, latency_s in zip(outcome.requests, outcome.latencies_s, strict=True):
            by_node[outcome.nodes[request.server]].append(latency_s)

        medians = {node: statistics.median(found) for node, found in by_node.items()}
        assert medians[0] > 2 * medians[1]
        assert medians[1] == pytest.approx(medians[2], rel=0.2)

    def test_latency_grows_as_memory_shrinks(self) -> None:
        calm = replace(disturbed(), episodes=())
        found = []
        for share in (1.0, 0.8, 0.6):
            resizes = tuple(
                Resize(node=node, at_s=0.0, capacity_pages=2 * HOT_PAGES * share) for node in range(3)
            )
            outcome = simulate(replace(calm, resizes=resizes), policy_named("round-robin"), seed=3)
            found.append(statistics.median(outcome.latencies_s))

        assert found[0] < found[1] < found[2]


class TestRepetition:
    """A scenario, a policy and a seed give one outcome."""

    @pytest.mark.parametrize("name", POLICIES)
    def test_the_same_seed_gives_the_same_answers(self, name: str) -> None:
        scenario = disturbed(duration_s=6.0)
        runs = [simulate(scenario, policy_named(name), seed=11) for _ in range(2)]

        assert runs[0].latencies_s == runs[1].latencies_s
        assert [one.server for one in runs[0].requests] == [one.server for one in runs[1].requests]

    def test_all_policies_see_the_same_arrivals(self) -> None:
        scenario = disturbed(duration_s=6.0)
        runs = [simulate(scenario, policy_named(name), seed=11) for name in ("random", "s3ml")]

        assert [one.sent_s for one in runs[0].requests] == [one.sent_s for one in runs[1].requests]

    def test_another_seed_gives_others(self) -> None:
        scenario = disturbed(duration_s=6.0)
        runs = [simulate(scenario, policy_named("random"), seed=seed) for seed in (1, 2)]

        assert runs[0].latencies_s != runs[1].latencies_s


class TestRefusals:
    """What cannot be simulated is refused before it begins."""

    def test_nodes_that_there_are_not(self) -> None:
        with pytest.raises(ConfigurationError, match="places of nodes from 0 to 2, got"):
            replace(disturbed(), episodes=(Episode(node=3, begins_s=0, ends_s=1),))

    def test_a_warm_up_as_long_as_the_run(self) -> None:
        with pytest.raises(ConfigurationError, match="a warm-up shorter than the run"):
            replace(disturbed(), warmup_s=20.0)

    def test_an_episode_that_ends_before_it_begins(self) -> None:
        with pytest.raises(ConfigurationError, match="expected a beginning before its end"):
            Episode(node=0, begins_s=2, ends_s=1)
