"""The policies that s3ml is compared with: each does what it is known for."""

from collections import Counter
from random import Random

import pytest

from s3ml.scheduling.balancer.policies import policy_named
from s3ml.scheduling.balancer.policies.dividing import damped, proportional
from s3ml.scheduling.balancer.policies.drawing import by_share
from s3ml.scheduling.balancer.policies.measuring import measured_service_s, quantile
from s3ml.scheduling.balancer.view import Reason
from s3ml.scheduling.model import Model
from tests.scheduling.sights import NOW_S, crowded, reading, replica, unmeasured, view


def seeded(seed: int = 1) -> Random:
    return Random(seed)  # noqa: S311 - draws that can be had again


class TestTurns:
    """Round robin goes around; random does not."""

    def test_round_robin_takes_one_after_the_other(self) -> None:
        fleet = [replica("a"), replica("b", is_ready=False), replica("c")]
        policy = policy_named("round-robin")
        assert [policy.pick(view(*fleet, turn=turn), seeded()).replica for turn in range(4)] == list("acac")

    def test_turns_by_share_are_as_even_as_can_be(self) -> None:
        """Of any 100 turns in a row each has its share but for a few."""
        fleet, share = [replica(name) for name in "abc"], {"a": 0.5, "b": 0.3, "c": 0.2}
        turns = [by_share(fleet, share, turn).name for turn in range(1000)]
        for begin in range(0, 900, 50):
            found = Counter(turns[begin : begin + 100])
            assert all(abs(found[name] - 100 * part) <= 4 for name, part in share.items())


class TestRequestsInFlight:
    """Least request compares all, power of two two."""

    def test_the_least_busy_of_all_is_taken(self) -> None:
        choice = policy_named("least-request").pick(
            view(replica("a", in_flight=2), replica("b", in_flight=1), replica("c", in_flight=3)), seeded()
        )
        assert choice.replica == "b"
        assert choice.reasons == {"a": Reason.BUSIER, "b": Reason.CHOSEN, "c": Reason.BUSIER}

    def test_of_two_that_are_drawn_the_busier_is_never_taken(self) -> None:
        fleet = [replica("a"), replica("b", in_flight=1), replica("c", in_flight=2)]
        draw, policy = seeded(), policy_named("power-of-two")
        picked = Counter(policy.pick(view(*fleet), draw).replica for _ in range(300))
        assert picked["c"] == 0
        assert picked["a"] > picked["b"] > 0


class TestPrequal:
    """Hot by requests in flight, then by latency."""

    def test_the_fastest_cold_one_is_taken(self) -> None:
        fleet = [replica("a", service_s=0.03), replica("b", service_s=0.02), replica("c", service_s=0.05)]
        assert policy_named("prequal").pick(view(*fleet), seeded()).replica == "b"

    def test_a_hot_one_is_left_out_however_fast(self) -> None:
        fleet = [replica(name, service_s=1.0, in_flight=1) for name in "abcdef"]
        fleet.append(replica("g", service_s=0.001, in_flight=9))
        choice = policy_named("prequal").pick(view(*fleet), seeded())
        assert choice.replica != "g"
        assert choice.reasons["g"] is Reason.BUSIER

    def test_latency_is_that_at_the_requests_in_flight_now(self) -> None:
        fleet = [replica("a", service_s=0.01, in_flight=3), replica("b", service_s=0.03), replica("c")]
        fleet[2] = replica("c", service_s=0.9)
        assert policy_named("prequal").pick(view(*fleet, replica("d", in_flight=9)), seeded()).replica == "b"

    def test_one_that_never_answered_is_tried(self) -> None:
        assert policy_named("prequal").pick(view(replica("a"), unmeasured("b")), seeded()).replica == "b"

    def test_errors_attract_nothing(self) -> None:
        fleet = [replica("a", service_s=0.004, error_share=0.8), replica("b")]
        assert policy_named("prequal").pick(view(*fleet), seeded()).replica == "b"

    def test_shares_follow_speed_a_part_of_the_way(self) -> None:
        fleet = [replica("a"), replica("b", service_s=0.03)]
        first = policy_named("prequal").shares(view(*fleet, previous={"a": 0.5, "b": 0.5}))
        assert 0.5 < first.share["a"] < 0.75
        assert first.reasons == {"a": Reason.CHOSEN, "b": Reason.SLOWER}


class TestThePaper:
    """Weights by paging rate, and an exclusion above the limit."""

    def test_a_node_that_pages_weighs_less(self) -> None:
        nodes = {"n": reading(), "m": reading(page_ins_per_s=1000.0)}
        fleet = view(replica("a", "n"), replica("b", "m"), nodes=nodes)
        share = policy_named("s3ml-paper", Model(paging_limit_per_s=1000)).shares(fleet).share
        assert share["a"] == pytest.approx(2 / 3, rel=1e-3)

    def test_above_the_limit_it_gets_nothing(self) -> None:
        nodes = {"n": reading(), "m": reading(page_ins_per_s=1001.0)}
        policy = policy_named("s3ml-paper", Model(paging_limit_per_s=1000))
        picked = [
            policy.pick(view(replica("a", "n"), replica("b", "m"), nodes=nodes, turn=turn), seeded())
            for turn in range(200)
        ]
        assert {choice.replica for choice in picked} == {"a"}
        assert picked[0].reasons["b"] is Reason.PAGING

    def test_where_all_are_above_it_the_rate_still_decides(self) -> None:
        nodes = {"n": reading(page_ins_per_s=2000.0), "m": reading(page_ins_per_s=8000.0)}
        fleet = view(replica("a", "n"), replica("b", "m"), nodes=nodes)
        share = policy_named("s3ml-paper", Model(paging_limit_per_s=1000)).shares(fleet).share
        assert share["a"] == pytest.approx(0.75, rel=1e-3)

    def test_a_node_without_a_reading_weighs_as_the_mean(self) -> None:
        fleet = view(replica("a", "n"), replica("b", "m"), nodes={"n": reading(page_ins_per_s=500.0)})
        assert set(policy_named("s3ml-paper").shares(fleet).share.values()) == {0.5}

    def test_without_any_reading_all_are_alike_and_it_says_so(self) -> None:
        old = {"n": crowded(taken_at_s=NOW_S - 60)}
        choice = policy_named("s3ml-paper").pick(
            view(replica("a", "n"), replica("b", "n"), nodes=old), seeded()
        )
        assert Reason.FELL_BACK in choice.reasons.values()


class TestDividing:
    """Shares move a part of the way, and nobody vanishes."""

    def test_a_step_goes_a_part_of_the_way(self) -> None:
        assert damped({"a": 0.9, "b": 0.1}, {"a": 0.5, "b": 0.5}, rise=0.25, fall=0.25) == {
            "a": 0.6,
            "b": 0.4,
        }

    def test_it_falls_faster_than_it_rises_and_never_at_once(self) -> None:
        found = damped({"a": 0.9, "b": 0.1}, {"a": 0.1, "b": 0.9}, rise=0.3, fall=0.7)
        assert found == pytest.approx({"a": 0.5, "b": 0.5})

    def test_at_the_beginning_it_goes_all_the_way(self) -> None:
        assert damped({"a": 0.9, "b": 0.1}, {}, rise=0.25, fall=0.5) == {"a": 0.9, "b": 0.1}

    def test_who_comes_has_a_share_at_once_and_who_leaves_none(self) -> None:
        found = damped({"a": 0.5, "c": 0.5}, {"a": 0.5, "b": 0.5}, rise=0.25, fall=0.5)
        assert found == {"a": 0.5, "c": 0.5}

    def test_a_floor_is_under_each(self) -> None:
        assert proportional({"a": 1.0, "b": 0.0}, floor=0.1) == pytest.approx({"a": 0.95, "b": 0.05})

    def test_weights_of_nothing_are_equal_shares(self) -> None:
        assert proportional({"a": 0.0, "b": 0.0}) == {"a": 0.5, "b": 0.5}


class TestMeasuring:
    """Work for one answer, without the wait behind others."""

    def test_littles_law_takes_the_wait_off(self) -> None:
        waited = replica("a", service_s=None, latency_s=0.1, rate_rps=40.0)
        assert measured_service_s(waited) == pytest.approx(0.025)

    def test_where_nobody_waits_latency_is_work(self) -> None:
        assert measured_service_s(replica("a", service_s=None, latency_s=0.1, rate_rps=None)) == 0.1

    def test_a_quantile_is_one_of_the_values(self) -> None:
        assert [quantile([5, 1, 3, 2, 4, 6], share) for share in (0.0, 0.5, 0.84, 1.0)] == [1, 3, 5, 6]
