"""TEE memory of a simulated node: what a touch brings back, and what it pushes out."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.memory import Memory

SETS = ("a", "b", "c")


def shared(headroom: float, size: float = 1000.0) -> Memory:
    memory = Memory(headroom * len(SETS) * size)
    for name in SETS:
        memory.add(name, size, is_loaded=True)
    return memory


def missing_in_turns(headroom: float) -> float:
    """Return the share of a set that each touch brings back, once turns have settled."""
    memory = shared(headroom)
    for _ in range(50):
        for name in SETS:
            missing = memory.touch(name)
    return missing / 1000.0


class TestRoom:
    """What fits stays."""

    def test_nothing_is_brought_back_where_all_fits(self) -> None:
        memory = shared(1.0)

        assert [memory.touch(name) for name in SETS * 3] == [0.0] * 9
        assert memory.page_ins == memory.page_outs == 0

    def test_pages_per_turn_grow_near_linearly_as_memory_shrinks(self) -> None:
        found = [missing_in_turns(headroom) for headroom in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)]

        steps = [after - before for before, after in pairwise(found)]
        assert found[0] == 0
        assert all(0.1 < step < 0.3 for step in steps)

    def test_a_set_larger_than_the_memory_is_brought_back_whole(self) -> None:
        memory = Memory(100)
        memory.add("large", 150)

        memory.touch("large")
        assert memory.touch("large") == 150
        assert memory.resident == 100

    def test_one_that_leaves_makes_room(self) -> None:
        memory = shared(1.0)
        memory.add("hog", 1500)
        memory.touch("hog")
        memory.remove("hog")

        lost = memory.evicted
        assert lost == pytest.approx(1500)
        assert sum(memory.touch(name) for name in SETS) == pytest.approx(lost)
        assert [memory.touch(name) for name in SETS] == [0.0] * 3

    def test_no_memory_at_all_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="expected a capacity above 0"):
            Memory(0)


class TestBooks:
    """Whatever happens, pages are neither made nor lost."""

    @settings(max_examples=50)
    @given(
        st.floats(min_value=10, max_value=5000),
        st.lists(st.tuples(st.sampled_from(SETS), st.floats(min_value=0, max_value=1)), max_size=20),
        st.floats(min_value=10, max_value=5000),
    )
    def test_ins_less_outs_are_what_is_there(
        self, capacity: float, touches: list[tuple[str, float]], smaller: float
    ) -> None:
        memory = Memory(capacity)
        for number, name in enumerate(SETS, start=1):
            memory.add(name, 700.0 * number)
        for name, share in touches:
            memory.touch(name, share)
        memory.resize(smaller)
        for name, share in touches:
            memory.touch(name, share)

        assert memory.page_ins - memory.page_outs == pytest.approx(memory.resident, abs=1e-6)
        assert memory.resident <= max(memory.capacity, 0) + 1e-6
        assert memory.evicted >= -1e-6
