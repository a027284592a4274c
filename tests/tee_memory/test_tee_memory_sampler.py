"""A sampler keeps the newest readings; what fails grows old, and says why."""

import math
from collections.abc import Iterable

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory import Counts, Kind, Sampler, Source
from s3ml.tee_memory.readings import SERVERS_LIMIT, decode
from tests.clocks import FakeClock


class Scripted:
    """A source that counts as it is told."""

    kind = Kind.SIMULATED

    def __init__(self, clock: FakeClock, name: str = "scripted") -> None:
        self.clock = clock
        self.name = name
        self.page_ins: float = 0
        self.fault: Exception | None = None
        self.is_closed = False

    def count(self) -> Counts:
        if self.fault is not None:
            raise self.fault
        return Counts(taken_at_s=self.clock.monotonic_s(), page_ins=self.page_ins)  # type: ignore[arg-type]

    def close(self) -> None:
        self.is_closed = True


class Fleet:
    """Servers that come and go."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.present: list[str] = []
        self.opened: list[Scripted] = []
        self.fault: Exception | None = None

    def names(self) -> Iterable[str]:
        if self.fault is not None:
            raise self.fault
        return self.present

    def source(self, name: str) -> Source:
        if name == "gone":
            raise UnavailableError("gone: it went")
        self.opened.append(Scripted(self.clock, name))
        return self.opened[-1]


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.source = Scripted(self.clock)
        self.fleet = Fleet(self.clock)
        self.sampler = Sampler("n1", self.source, self.clock, interval_s=1.0, servers=self.fleet)

    def step(self, page_ins: float = 0) -> None:
        self.clock.advance(1.0)
        self.source.page_ins += page_ins
        self.sampler.sample()

    def rate(self) -> float | None:
        reading = self.sampler.newest.reading
        assert reading is not None
        return reading.page_ins_per_s


@pytest.fixture
def world() -> World:
    return World()


class TestNode:
    """The node's own readings."""

    def test_before_the_first_there_is_none(self, world: World) -> None:
        assert world.sampler.readings().reading is None
        assert world.sampler.age_s() is None

    def test_rates_are_between_the_newest_two(self, world: World) -> None:
        world.step()
        world.step(100)
        world.step(30)

        assert world.rate() == 30

    def test_the_document_has_ages(self, world: World) -> None:
        world.step()
        world.clock.advance(0.4)
        found = decode(world.sampler.readings().encode())

        assert found.reading is not None
        assert found.reading.age_s == pytest.approx(0.4)
        assert (found.node, found.is_simulated, found.error) == ("n1", True, None)

    def test_a_failure_keeps_the_last_and_says_why(self, world: World) -> None:
        world.step()
        world.source.fault = UnavailableError("it is down")
        world.step()
        world.step()

        assert world.sampler.age_s() == 2
        assert world.sampler.readings().error == "it is down"
        assert (world.sampler.sample_count, world.sampler.failure_count) == (1, 2)

    def test_it_recovers(self, world: World) -> None:
        world.step()
        world.source.fault = UnavailableError("it is down")
        world.step()
        world.source.fault = None
        world.step(10)

        assert (world.sampler.error, world.rate()) == (None, 5)

    @pytest.mark.parametrize("absurd", [math.nan, math.inf])
    def test_what_cannot_be_true_is_not_kept(self, world: World, absurd: float) -> None:
        world.step()
        world.step(10)
        world.source.page_ins = absurd
        world.clock.advance(1.0)
        world.sampler.sample()

        assert world.rate() == 10
        assert world.sampler.error == "scripted: counts that cannot be true"

    def test_a_long_reason_is_cut(self, world: World) -> None:
        world.source.fault = UnavailableError("x" * 1000)
        world.step()

        decode(world.sampler.readings().encode())

    def test_an_error_that_is_not_ours_is_not_hidden(self, world: World) -> None:
        world.source.fault = ZeroDivisionError()

        with pytest.raises(ZeroDivisionError):
            world.step()


class TestServers:
    """Paging is attributed to servers, while they are there."""

    def test_they_come(self, world: World) -> None:
        world.fleet.present = ["b", "a"]
        world.step()
        world.step()

        assert [server.name for server in world.sampler.readings().servers] == ["a", "b"]
        assert len(world.fleet.opened) == 2

    def test_they_have_rates_of_their_own(self, world: World) -> None:
        world.fleet.present = ["a"]
        world.step()
        world.fleet.opened[0].page_ins = 7
        world.step(100)

        attributed = world.sampler.attributed["a"].reading
        assert attributed is not None
        assert (attributed.page_ins_per_s, world.rate()) == (7, 100)

    def test_they_go_and_are_closed(self, world: World) -> None:
        world.fleet.present = ["a", "b"]
        world.step()
        world.fleet.present = ["b"]
        world.step()

        assert list(world.sampler.attributed) == ["b"]
        assert [source.is_closed for source in world.fleet.opened] == [True, False]

    def test_one_that_fails_is_opened_again(self, world: World) -> None:
        world.fleet.present = ["a"]
        world.step()
        world.fleet.opened[0].fault = UnavailableError("a: gone")
        world.step()
        assert (world.fleet.opened[0].is_closed, world.sampler.error) == (True, "a: gone")
        world.step()

        assert (len(world.fleet.opened), world.sampler.error) == (2, None)

    def test_one_that_cannot_be_opened_hides_no_other(self, world: World) -> None:
        world.fleet.present = ["gone", "a"]
        world.step()

        assert world.sampler.error == "gone: it went"
        assert world.sampler.attributed["a"].reading is not None

    def test_servers_that_cannot_be_listed_stay(self, world: World) -> None:
        world.fleet.present = ["a"]
        world.step()
        world.fleet.fault = UnavailableError("no list")
        world.step()

        assert list(world.sampler.attributed) == ["a"]
        assert world.sampler.error == "no list"

    def test_there_are_only_so_many(self, world: World) -> None:
        world.fleet.present = [f"s{number:04}" for number in range(SERVERS_LIMIT + 10)]
        world.step()

        assert len(world.sampler.attributed) == SERVERS_LIMIT

    def test_the_end_closes_all(self, world: World) -> None:
        world.fleet.present = ["a", "b"]
        world.step()
        world.sampler.close()

        assert all(source.is_closed for source in [world.source, *world.fleet.opened])

    def test_none_by_default(self) -> None:
        clock = FakeClock()
        sampler = Sampler("n1", Scripted(clock), clock, interval_s=1.0)
        sampler.sample()

        assert sampler.attributed == {}
