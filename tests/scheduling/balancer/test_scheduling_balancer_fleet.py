"""Observations go in, views come out."""

from s3ml.scheduling.balancer.fleet import Fleet, Host
from s3ml.scheduling.balancer.membership import Member
from s3ml.tee_memory.reading import Confidence, Kind, Reading

A = Member(name="a", node="n1", address="127.0.0.1:1")
B = Member(name="b", node="n2", address="127.0.0.1:2")


def host(member: Member, *, is_ready: bool = True, in_flight: int = 0, succeeded: int = 0) -> Host:
    return Host(address=member.address, is_ready=is_ready, in_flight=in_flight, succeeded=succeeded, failed=0)


def reading(taken_at_s: float = 0.0) -> Reading:
    return Reading(
        kind=Kind.SIMULATED,
        source="test",
        taken_at_s=taken_at_s,
        span_s=1.0,
        capacity_bytes=100,
        resident_bytes=100,
        evicted_bytes=0,
        page_ins_per_s=1.0,
        page_outs_per_s=1.0,
        pressure=0.0,
        confidence=Confidence.COUNTED,
    )


def fleet(*, is_picking: bool = False) -> Fleet:
    made = Fleet(is_picking=is_picking)
    made.set_members([A, B])
    return made


class TestReadiness:
    def test_who_was_not_seen_is_not_ready(self) -> None:
        assert fleet().view(0).ready == ()

    def test_the_gateways_word_counts(self) -> None:
        seen = fleet()
        seen.observe_hosts(0, [host(A), host(B, is_ready=False)])
        assert [replica.name for replica in seen.view(0).ready] == ["a"]

    def test_one_that_the_gateway_does_not_know_is_not_ready(self) -> None:
        seen = fleet()
        seen.observe_hosts(0, [host(A), host(B)])
        seen.observe_hosts(1, [host(A)])
        assert [replica.name for replica in seen.view(1).ready] == ["a"]

    def test_a_stranger_is_nobody(self) -> None:
        seen = fleet()
        seen.observe_hosts(0, [host(Member(name="x", node="n", address="127.0.0.1:9"))])
        assert [replica.name for replica in seen.view(0).replicas] == ["a", "b"]

    def test_only_those_of_a_hint_are_shown_as_ready(self) -> None:
        seen = fleet()
        seen.observe_hosts(0, [host(A), host(B)])
        view = seen.view(0, among=frozenset({B.address, "127.0.0.1:99"}))
        assert [replica.name for replica in view.ready] == ["b"]
        assert len(view.replicas) == 2


class TestCounts:
    def test_without_a_picker_the_gateways_samples_count(self) -> None:
        seen = fleet()
        seen.began("a", 1, 0)
        seen.observe_hosts(0, [host(A, in_flight=7)])
        assert seen.view(0).replicas[0].in_flight == 7

    def test_with_one_its_own_counts_do(self) -> None:
        seen = fleet(is_picking=True)
        seen.observe_hosts(0, [host(A, in_flight=7)])
        seen.began("a", 1, 0)
        replica = seen.view(3).replicas[0]
        assert (replica.in_flight, replica.oldest_s) == (1, 3)
        seen.ended("a", 1, 4, is_answered=True)
        replica = seen.view(4).replicas[0]
        assert (replica.in_flight, replica.latency_s) == (0, 4)

    def test_a_replica_that_left_is_no_trouble(self) -> None:
        seen = fleet(is_picking=True)
        seen.began("a", 1, 0)
        seen.set_members([B])
        seen.ended("a", 1, 1, is_answered=True)
        seen.began("a", 2, 1)
        assert [replica.name for replica in seen.view(1).replicas] == ["b"]


class TestMembers:
    def test_what_is_known_of_those_who_stay_is_kept(self) -> None:
        seen = fleet()
        seen.observe_hosts(0, [host(A, in_flight=3), host(B)])
        seen.set_members([B, A])
        assert [(replica.name, replica.in_flight) for replica in seen.view(0).replicas] == [
            ("b", 0),
            ("a", 3),
        ]

    def test_one_that_moved_is_another(self) -> None:
        seen = fleet()
        seen.observe_hosts(0, [host(A, in_flight=3)])
        seen.set_members([Member(name="a", node="n1", address="127.0.0.1:7")])
        (replica,) = seen.view(0).replicas
        assert (replica.is_ready, replica.in_flight) == (False, 0)
        assert seen.name_at(A.address) is None
        assert seen.address_of("a") == "127.0.0.1:7"


class TestReadings:
    def test_they_are_shown_by_node_and_by_server(self) -> None:
        seen = fleet()
        seen.observe_node("n1", reading(), {"a": reading(1.0)})
        view = seen.view(0)
        assert list(view.nodes) == ["n1"]
        assert view.replicas[0].own == reading(1.0)
        assert view.replicas[1].own is None

    def test_one_that_is_not_renewed_grows_old(self) -> None:
        seen = fleet()
        seen.observe_node("n1", reading(), {})
        assert seen.view(60).nodes["n1"].age_s(60) == 60

    def test_nodes_that_left_are_forgotten(self) -> None:
        seen = fleet()
        seen.observe_node("n1", reading(), {"a": reading(), "stranger": reading()})
        seen.forget_nodes(["n2"])
        assert seen.view(0).nodes == {}


class TestTurns:
    def test_each_view_is_a_turn_and_shows_what_was_settled(self) -> None:
        seen = fleet()
        assert (seen.view(0).turn, seen.view(0).previous) == (0, {})
        seen.settle({"a": 1.0})
        view = seen.view(0)
        assert (view.turn, view.previous) == (2, {"a": 1.0})
