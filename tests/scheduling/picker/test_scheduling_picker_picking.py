"""Each request goes where the policy says, and what became of it is known."""

import pytest

from s3ml.scheduling.balancer.settings import Steering
from s3ml.scheduling.picker.messages import Answered, Question, destination
from s3ml.scheduling.picker.picking import Picker
from tests.scheduling.fakes import DRAW, A, B, World, host, make_world

ANY = Question(path="/services/t/ohttp", among=None)


def service_of(path: str) -> str | None:
    return path.split("/")[2] if path.count("/") > 2 else None


@pytest.fixture
async def world() -> World:
    made = make_world(steering=Steering.PICKER)
    await made.balancer.step()
    return made


@pytest.fixture
def picker(world: World) -> Picker:
    return Picker(world.balancer, service_of=service_of, draw=DRAW, clock=world.clock)


def in_flight(world: World) -> dict[str, int]:
    return {item.name: item.in_flight for item in world.balancer.fleets["t"].view(0).replicas}


class TestPick:
    async def test_the_policy_decides(self, world: World, picker: Picker) -> None:
        picked = picker.pick(ANY)
        assert picked is not None
        assert (picked.replica, picked.answer) == ("a", destination([A.address]))
        world.balancer.switch("last")
        picked = picker.pick(ANY)
        assert picked is not None
        assert picked.replica == "b"

    async def test_among_those_of_a_hint(self, picker: Picker) -> None:
        picked = picker.pick(Question(path="", among=frozenset({B.address})))
        assert picked is not None
        assert picked.replica == "b"
        assert picker.pick(Question(path="", among=frozenset())) is None
        assert picker.pick(Question(path="", among=frozenset({"127.0.0.1:99"}))) is None

    async def test_none_is_ready(self, world: World, picker: Picker) -> None:
        world.gateway.found["t"] = [host(A, is_ready=False), host(B, is_ready=False)]
        await world.balancer.step()
        assert picker.pick(ANY) is None
        assert b's3ml_balancer_picks_total{outcome="none-ready"} 1.0' in world.balancer.metrics.render()

    async def test_reasons_are_counted(self, world: World, picker: Picker) -> None:
        picker.pick(ANY)
        text = world.balancer.metrics.render().decode()
        assert 's3ml_balancer_decisions_total{reason="chosen",replica="a",service="t"} 1.0' in text
        assert 's3ml_balancer_decisions_total{reason="not-drawn",replica="b",service="t"} 1.0' in text

    async def test_one_service_needs_no_path_several_do(self, world: World, picker: Picker) -> None:
        assert picker.pick(Question(path="/anything", among=None)) is not None
        membership = world.membership[0]
        assert not isinstance(membership, Exception)
        world.membership[0] = type(membership)(services={"t": (A, B), "u": ()}, agents={})
        await world.balancer.step()
        assert picker.pick(ANY) is not None
        assert picker.pick(Question(path="/anything", among=None)) is None
        assert picker.pick(Question(path="/services/u/ohttp", among=None)) is None


class TestEnds:
    async def test_an_answer_ends_it(self, world: World, picker: Picker) -> None:
        picked = picker.pick(ANY)
        assert picked is not None
        assert in_flight(world) == {"a": 1, "b": 0}
        world.clock.advance(3)
        picker.answered(picked, Answered(status=500, served_by=A.address))
        replica = world.balancer.fleets["t"].view(0).replicas[0]
        assert (replica.in_flight, replica.latency_s, replica.error_share) == (0, 3, 1)

    async def test_it_counts_where_it_was_served(self, world: World, picker: Picker) -> None:
        """The gateway tried another after the one that was picked."""
        picked = picker.pick(ANY)
        assert picked is not None
        world.clock.advance(3)
        picker.answered(picked, Answered(status=200, served_by=B.address))
        a, b = world.balancer.fleets["t"].view(0).replicas
        assert (a.in_flight, a.latency_s) == (0, None)
        assert (b.in_flight, b.latency_s) == (0, 3)

    async def test_a_stranger_served(self, world: World, picker: Picker) -> None:
        picked = picker.pick(ANY)
        assert picked is not None
        picker.answered(picked, Answered(status=200, served_by="127.0.0.1:99"))
        assert in_flight(world) == {"a": 0, "b": 0}

    async def test_one_that_was_given_up_is_no_answer(self, world: World, picker: Picker) -> None:
        picked = picker.pick(ANY)
        assert picked is not None
        picker.given_up(picked)
        replica = world.balancer.fleets["t"].view(0).replicas[0]
        assert (replica.in_flight, replica.latency_s) == (0, None)
