"""Which input may begin, and whose outcome comes next."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.client.errors import InvalidInputError
from s3ml.client.results import InferResult
from s3ml.client.windows import Window


def result(index: int) -> InferResult:
    return InferResult(model="m", outputs={"y": np.zeros(1)}, datatypes={"y": "FP32"}, index=index)


def taken(window: Window) -> list[int]:
    places = []
    while (outcome := window.take()) is not None:
        places.append(outcome.index)
    return places


class TestOrder:
    """Outcomes are taken in the order of inputs, or as they come."""

    @pytest.mark.parametrize(("ordered", "first", "then"), [(True, [], [0, 1, 2]), (False, [2, 1], [0])])
    def test_a_slow_first(self, ordered: bool, first: list[int], then: list[int]) -> None:
        window = Window(concurrency=3, ordered=ordered)
        for _ in range(3):
            window.begin()
        window.finish(result(2))
        window.finish(result(1))
        assert taken(window) == first
        window.finish(result(0))
        assert taken(window) == then
        assert window.is_idle

    @given(st.data(), st.integers(1, 5), st.booleans())
    def test_each_once_and_never_more_than_may_be(
        self, data: st.DataObject, concurrency: int, ordered: bool
    ) -> None:
        window = Window(concurrency=concurrency, ordered=ordered)
        running: list[int] = []
        begun = 0
        got: list[int] = []
        while len(got) < 20:
            while begun < 20 and window.may_begin:
                running.append(window.begin())
                begun += 1
            assert len(running) <= concurrency
            assert begun - len(got) <= 2 * concurrency
            assert running
            running.remove(ended := data.draw(st.sampled_from(running)))
            window.finish(result(ended))
            got += taken(window)
        assert sorted(got) == list(range(20))
        assert not ordered or got == sorted(got)


class TestBounds:
    """A caller who waits for a slow first one holds no more than twice what may be under way."""

    def test_nothing_is_begun_far_ahead(self) -> None:
        window = Window(concurrency=2, ordered=True)
        window.begin()
        for index in (1, 2, 3):
            assert window.may_begin
            window.begin()
            window.finish(result(index))
        assert not window.may_begin
        window.finish(result(0))
        assert taken(window) == [0, 1, 2, 3]
        assert window.may_begin

    @pytest.mark.parametrize("concurrency", [0, -1, 129])
    def test_concurrency(self, concurrency: int) -> None:
        with pytest.raises(InvalidInputError, match=f"concurrency: expected 1 to 128, got {concurrency}"):
            Window(concurrency=concurrency, ordered=True)
