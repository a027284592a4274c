"""What holds of every policy, whatever it goes by."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.scheduling.balancer.view import Policy, Reason, Replica, View
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import assumed_curve
from s3ml.tee_memory.reading import Confidence, Kind, Reading
from tests.scheduling.sights import HOT_BYTES, NOW_S, replica, view

figures = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
sizes = st.one_of(st.none(), st.integers(-(2**60), 2**60))
readings = st.builds(
    Reading,
    kind=st.sampled_from(Kind),
    source=st.just("a test"),
    taken_at_s=st.floats(-1e6, NOW_S + 5),
    span_s=st.floats(0, 10),
    capacity_bytes=sizes,
    resident_bytes=sizes,
    evicted_bytes=sizes,
    page_ins_per_s=figures,
    page_outs_per_s=figures,
    pressure=figures,
    confidence=st.sampled_from(Confidence),
)
times = st.one_of(st.none(), st.floats(0, 1e4))
models = st.sampled_from(
    [Model(), Model(compute_s=0.01, curve=assumed_curve(HOT_BYTES), hot_set_bytes=HOT_BYTES, parallel=2)]
)
policies = st.builds(policy_named, st.sampled_from(sorted(POLICIES)), models)


replicas = st.builds(
    replica,
    st.just(""),
    st.sampled_from(["n", "m"]),
    is_ready=st.booleans(),
    in_flight=st.integers(0, 30),
    latency_s=times,
    service_s=times,
    rate_rps=times,
    answered_at_s=st.one_of(st.none(), st.floats(0, NOW_S)),
    oldest_s=st.floats(0, 1e3),
    error_share=st.floats(0, 1),
    own=st.one_of(st.none(), readings),
)


def named(fleet: list[Replica], nodes: dict[str, Reading], turn: int, previous: list[float]) -> View:
    """Any view, of readings that may say anything."""
    fleet = [replace(one, name=f"replica-{number}") for number, one in enumerate(fleet)]
    before = {f"replica-{number}": part for number, part in enumerate(previous)}
    return view(*fleet, nodes=nodes, turn=turn, previous=before)


views = st.builds(
    named,
    st.lists(replicas, max_size=5),
    st.dictionaries(st.sampled_from(["n", "m"]), readings, max_size=2),
    st.integers(0, 10**9),
    st.lists(st.floats(1e-6, 1), max_size=5),
)
unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def seeded(seed: int = 1) -> Random:
    return Random(seed)  # noqa: S311 - draws that can be had again


class TestPicks:
    """A pick is a ready replica, and says why each was or was not chosen."""

    @unhurried
    @given(policies, views)
    def test_one_that_is_ready_is_picked_if_there_is_one_and_again_by_the_same_draws(
        self, policy: Policy, seen: View
    ) -> None:
        choice = policy.pick(seen, seeded())
        ready = {one.name for one in seen.ready}
        assert choice.replica in ready if ready else choice.replica is None
        assert policy.pick(seen, seeded()) == choice

    @unhurried
    @given(policies, views)
    def test_each_replica_has_its_reason(self, policy: Policy, seen: View) -> None:
        choice = policy.pick(seen, seeded())
        chosen = {Reason.CHOSEN, Reason.EXPLORED, Reason.FELL_BACK}
        assert set(choice.reasons) == {one.name for one in seen.replicas}
        assert [name for name, reason in choice.reasons.items() if reason in chosen] == (
            [] if choice.replica is None else [choice.replica]
        )
        assert all(
            (choice.reasons[one.name] is Reason.NOT_READY) == (not one.is_ready) for one in seen.replicas
        )

    @pytest.mark.parametrize("name", POLICIES)
    def test_like_replicas_are_picked_alike(self, name: str) -> None:
        """Ties are spread: the first of a list gets no more than the last."""
        policy, draw = policy_named(name), seeded()
        fleet = [replica(f"replica-{number}", "n") for number in range(4)]
        picked = [policy.pick(view(*fleet, turn=turn), draw).replica for turn in range(800)]
        assert all(140 < picked.count(one.name) < 260 for one in fleet)


class TestShares:
    """Shares are of the ready ones, positive, and 1 in sum."""

    @unhurried
    @given(policies, views)
    def test_ready_replicas_divide_all_and_each_has_its_reason(self, policy: Policy, seen: View) -> None:
        shares = policy.shares(seen)
        assert set(shares.share) == {one.name for one in seen.ready}
        assert all(part > 0 for part in shares.share.values())
        assert not shares.share or math.isclose(sum(shares.share.values()), 1)
        assert set(shares.reasons) == {one.name for one in seen.replicas}
        assert all(
            (shares.reasons[one.name] is Reason.NOT_READY) == (not one.is_ready) for one in seen.replicas
        )
        assert policy.shares(seen) == shares

    @pytest.mark.parametrize("name", POLICIES)
    def test_like_replicas_have_like_shares(self, name: str) -> None:
        fleet = [replica(f"replica-{number}", "n") for number in range(4)]
        assert set(policy_named(name).shares(view(*fleet)).share.values()) == {0.25}


class TestNames:
    """People choose a policy by a word."""

    def test_there_are_seven(self) -> None:
        assert list(POLICIES) == [
            "round-robin",
            "random",
            "least-request",
            "power-of-two",
            "prequal",
            "s3ml-paper",
            "s3ml",
        ]

    @pytest.mark.parametrize("name", POLICIES)
    def test_each_goes_by_its_own(self, name: str) -> None:
        assert policy_named(name).name == name

    def test_another_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(ConfigurationError, match=r"round-robin, random.*, got 'fastest'"):
            policy_named("fastest")
