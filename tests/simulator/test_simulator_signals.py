"""How readings of simulated nodes reach a balancer: late, lost, noisy, forged."""

import math
from collections.abc import Mapping

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer import Choice, Shares, View
from s3ml.scheduling.balancer.policies import policy_named
from s3ml.simulator import Arrivals, Episode, Fleet, Forgery, Scenario, Signals, Work, simulate
from s3ml.tee_memory.reading import Kind, Reading

HOT_PAGES = 4000.0


class Recording:
    """A policy that keeps what it saw."""

    name = "recording"

    def __init__(self) -> None:
        self._policy = policy_named("round-robin")
        self.views: list[View] = []

    def pick(self, view: View, draw: object) -> Choice:
        self.views.append(view)
        return self._policy.pick(view, draw)  # type: ignore[arg-type]

    def shares(self, view: View) -> Shares:
        return self._policy.shares(view)


def views(signals: Signals) -> list[View]:
    """Return what is seen of three nodes, the first of which an antagonist makes page."""
    policy = Recording()
    work = Work(compute_s=0.01, hot_pages=HOT_PAGES)
    scenario = Scenario(
        fleet=Fleet(nodes=3, replicas_per_node=2, cores=2, capacity_pages=2.4 * HOT_PAGES, work=work),
        arrivals=Arrivals(rate_per_s=60),
        duration_s=6.0,
        episodes=(Episode(node=0, begins_s=0.0, ends_s=1e6, pages=HOT_PAGES),),
        signals=signals,
    )
    simulate(scenario, policy, seed=2)
    return policy.views


def last(found: list[View]) -> Mapping[str, Reading]:
    return found[-1].nodes


class TestTruth:
    """Undisturbed, what is read is what is."""

    def test_only_the_node_with_the_antagonist_pages(self) -> None:
        nodes = last(views(Signals()))

        assert (nodes["node-0"].page_ins_per_s or 0) > 1000
        assert nodes["node-1"].page_ins_per_s == nodes["node-2"].page_ins_per_s == 0
        assert (nodes["node-0"].evicted_bytes or 0) > 0
        assert 0 < (nodes["node-0"].pressure or 0) <= 1
        assert {reading.kind for reading in nodes.values()} == {Kind.SIMULATED}

    def test_what_a_server_pages_is_attributed_to_it(self) -> None:
        replicas = views(Signals())[-1].replicas

        rates = [replica.own.page_ins_per_s or 0.0 for replica in replicas if replica.own]
        assert len(rates) == 6
        assert rates[0] > 0
        assert rates[2:] == [0.0] * 4

    def test_a_balancers_own_counts_are_exact(self) -> None:
        for view in views(Signals()):
            assert all(replica.in_flight >= 0 for replica in view.replicas)
            assert all((replica.latency_s or 0.01) >= 0.0099 for replica in view.replicas)


class TestDelay:
    """A late reading is as old as it is late."""

    @pytest.mark.parametrize("delay_s", [0.1, 1.0, 5.0])
    def test_it_says_when_it_was_taken(self, delay_s: float) -> None:
        for view in views(Signals(delay_s=delay_s)):
            for reading in view.nodes.values():
                assert delay_s - 1e-9 <= reading.age_s(view.now_s) <= delay_s + 0.25 + 1e-9

    def test_nothing_is_known_before_the_first_came(self) -> None:
        assert all(not view.nodes for view in views(Signals(delay_s=2.0)) if view.now_s < 2)


class TestLoss:
    """What is lost never comes; what was there stays, and ages."""

    def test_all_lost_is_nothing_known(self) -> None:
        assert not any(view.nodes for view in views(Signals(loss=1.0)))

    def test_some_lost_makes_older_readings(self) -> None:
        ages = [
            reading.age_s(view.now_s) for view in views(Signals(loss=0.7)) for reading in view.nodes.values()
        ]

        assert max(ages) > 0.5


class TestLies:
    """Liars show what they like; others do not."""

    @pytest.mark.parametrize(
        ("forgery", "shown"), [(Forgery.ZERO, 0.0), (Forgery.HUGE, 1e6), (Forgery.INFINITE, math.inf)]
    )
    def test_a_liar_shows_it_for_itself_and_its_servers(self, forgery: Forgery, shown: float) -> None:
        view = views(Signals(forgery=forgery, liars=(0,)))[-1]

        assert view.nodes["node-0"].page_ins_per_s == shown
        assert view.nodes["node-1"].page_ins_per_s == 0
        assert view.replicas[0].own is not None
        assert view.replicas[0].own.page_ins_per_s == shown

    def test_swapped_ones_show_each_others(self) -> None:
        nodes = last(views(Signals(forgery=Forgery.SWAPPED, liars=(0, 1))))

        assert nodes["node-0"].page_ins_per_s == 0
        assert (nodes["node-1"].page_ins_per_s or 0) > 1000

    def test_they_begin_when_they_begin(self) -> None:
        found = views(Signals(forgery=Forgery.INFINITE, liars=(1,), lies_from_s=4.0))
        rates = {
            round(view.now_s): view.nodes["node-1"].page_ins_per_s for view in found if "node-1" in view.nodes
        }

        assert rates[3] == 0
        assert rates[5] == math.inf


class TestNoise:
    """Rates are blurred, and nothing else."""

    def test_capacity_stays_what_it_is(self) -> None:
        rates = set()
        for view in views(Signals(noise=0.5)):
            for reading in view.nodes.values():
                assert reading.capacity_bytes == round(2.4 * HOT_PAGES * 4096)
            rates.add(view.nodes["node-0"].page_ins_per_s if view.nodes else None)
        assert len(rates) > 10

    @pytest.mark.parametrize(
        "wrong", [{"period_s": 0.0}, {"delay_s": -1.0}, {"loss": 1.5}, {"noise": -0.1}], ids=str
    )
    def test_what_no_signal_does_is_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigurationError, match="signals: expected"):
            Signals(**wrong)  # type: ignore[arg-type]
