"""Pages per request against headroom: fitted, corrected, and the paper's limit."""

import math
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.paging import (
    EXCESS_LIMIT,
    GAIN,
    HEADROOM_LIMIT,
    Curve,
    Sample,
    assumed_curve,
    fit_curve,
    headroom_of,
    learn_limit,
)
from tests.scheduling.sights import HOT_BYTES, HOT_PAGES, reading

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
headrooms = st.floats(0, 2)
pages = st.floats(0, 1e6)
samples = st.lists(st.builds(Sample, headroom=headrooms, pages=pages), min_size=1, max_size=20)


def knee(headroom: float) -> float:
    """A known truth: nothing down to 0.9, then 100 pages for each tenth."""
    return max(0.0, 0.9 - headroom) * 1000


def falls(curve: Curve) -> bool:
    values = [point.pages for point in curve.points]
    return values == sorted(values, reverse=True) and values[-1] >= 0


class TestFitting:
    """The curve nearest to the samples of those that fall with headroom."""

    def test_a_curve_that_falls_is_found_exactly(self) -> None:
        places = [0.4, 0.6, 0.8, 0.9, 1.0, 1.2]
        curve = fit_curve(Sample(headroom=place, pages=knee(place)) for place in places)
        assert all(
            math.isclose(curve.pages(place), knee(place), abs_tol=1e-9) for place in (*places, 0.5, 1.1)
        )

    def test_a_noisy_one_is_found_nearly(self) -> None:
        draw = Random(5)  # noqa: S311 - noise that can be had again
        places = [0.3 + 0.05 * step for step in range(20)]
        noisy = [
            Sample(headroom=place, pages=max(0.0, knee(place) * draw.uniform(0.8, 1.2)))
            for place in places
            for _ in range(20)
        ]
        curve = fit_curve(noisy)
        assert all(abs(curve.pages(place) - knee(place)) <= 0.15 * knee(place) + 1 for place in places)

    def test_neighbours_that_grow_are_pooled_to_their_mean(self) -> None:
        curve = fit_curve(
            [Sample(headroom=0.5, pages=10), Sample(headroom=0.6, pages=20), Sample(headroom=0.7, pages=1)]
        )
        assert [point.pages for point in curve.points] == [15, 15, 1]

    def test_beyond_the_outer_points_it_is_level(self) -> None:
        curve = fit_curve([Sample(headroom=0.5, pages=10), Sample(headroom=1, pages=2)])
        assert (curve.pages(0), curve.pages(5)) == (10, 2)

    @unhurried
    @given(samples)
    def test_any_samples_give_a_curve_that_falls(self, given_samples: list[Sample]) -> None:
        curve = fit_curve(given_samples)
        assert falls(curve)
        assert curve.most_pages == max(point.pages for point in curve.points)

    def test_nothing_gives_none(self) -> None:
        with pytest.raises(ConfigurationError, match="expected 1 to 256 points, got 0"):
            fit_curve([])

    def test_without_measurements_everything_comes_back_at_no_headroom(self) -> None:
        curve = assumed_curve(HOT_BYTES)
        assert (curve.pages(0), curve.pages(0.45), curve.pages(0.9)) == (HOT_PAGES, HOT_PAGES / 2, 0)


class TestCurves:
    """What is no falling line is no curve."""

    def test_pages_that_grow_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"no more pages at 1 than at 0\.5, got 2 and 1"):
            Curve(points=(Sample(headroom=0.5, pages=1), Sample(headroom=1, pages=2)), most_pages=2)

    def test_points_out_of_order_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="by headroom, each once"):
            Curve(points=(Sample(headroom=1, pages=1), Sample(headroom=1, pages=1)), most_pages=1)

    @unhurried
    @given(samples)
    def test_it_survives_json(self, given_samples: list[Sample]) -> None:
        curve = fit_curve(given_samples)
        assert msgspec.json.decode(msgspec.json.encode(curve), type=Curve) == curve


class TestCorrecting:
    """An observation pulls the curve where it was made, by a bounded part."""

    def test_many_observations_bring_it_to_the_truth(self) -> None:
        curve = assumed_curve(HOT_BYTES)
        curve = Curve(
            points=tuple(Sample(headroom=place / 10, pages=curve.pages(place / 10)) for place in range(11)),
            most_pages=curve.most_pages,
        )
        for step in range(4000):
            place = 0.3 + step % 8 / 10
            curve = curve.corrected(Sample(headroom=place, pages=knee(place) / 2))
        assert all(abs(curve.pages(0.3 + step / 10) - knee(0.3 + step / 10) / 2) < 5 for step in range(8))

    @unhurried
    @given(samples, headrooms, st.floats(0, 2.0**40))
    def test_it_still_falls(self, given_samples: list[Sample], headroom: float, seen: float) -> None:
        assert falls(fit_curve(given_samples).corrected(Sample(headroom=headroom, pages=seen)))

    @unhurried
    @given(samples, headrooms, st.floats(0, 2.0**40))
    def test_one_observation_moves_no_point_far(
        self, given_samples: list[Sample], headroom: float, seen: float
    ) -> None:
        """However much a host claims."""
        before = fit_curve(given_samples)
        after = before.corrected(Sample(headroom=headroom, pages=seen))
        bound = GAIN * EXCESS_LIMIT * before.most_pages
        assert all(
            abs(new.pages - old.pages) <= bound * (1 + 1e-9) + 1e-9
            for old, new in zip(before.points, after.points, strict=True)
        )

    def test_no_flood_of_observations_goes_beyond_the_bound(self) -> None:
        curve = assumed_curve(HOT_BYTES)
        for _ in range(1000):
            curve = curve.corrected(Sample(headroom=0.5, pages=1e12))
        assert max(point.pages for point in curve.points) <= EXCESS_LIMIT * HOT_PAGES * 2

    def test_what_was_seen_already_changes_nothing(self) -> None:
        curve = fit_curve([Sample(headroom=0.5, pages=10), Sample(headroom=1, pages=2)])
        assert curve.corrected(Sample(headroom=0.75, pages=6)) == curve


class TestHeadroom:
    """Capacity over what is resident or evicted."""

    def test_what_is_evicted_counts(self) -> None:
        node = reading(capacity_bytes=90, resident_bytes=80, evicted_bytes=40)
        assert headroom_of(node) == 0.75

    def test_an_empty_node_has_all_of_it(self) -> None:
        assert headroom_of(reading(resident_bytes=0)) == HEADROOM_LIMIT

    @pytest.mark.parametrize("unknown", ["capacity_bytes", "resident_bytes"])
    def test_what_is_not_known_gives_none(self, unknown: str) -> None:
        assert headroom_of(reading(**{unknown: None})) is None


class TestLearningALimit:
    """The paging rate above which an objective is missed."""

    def test_it_parts_what_is_met_from_what_is_missed(self) -> None:
        seen = [(0, 0.1), (500, 0.2), (1000, 0.4), (2000, 0.6), (9000, 3.0)]
        assert learn_limit(seen, objective_s=0.5) == 1000

    def test_a_few_that_contradict_do_not_move_it(self) -> None:
        seen = [(float(rate), 0.1 if rate <= 50 else 0.9) for rate in range(100)]
        seen += [(3.0, 0.9), (90.0, 0.1)]
        assert learn_limit(seen, objective_s=0.5) == 50

    def test_where_nothing_is_missed_there_is_none(self) -> None:
        assert learn_limit([(1, 0.1), (2, 0.2)], objective_s=0.5) is None

    def test_where_all_is_missed_nothing_may_page(self) -> None:
        assert learn_limit([(1, 0.9), (2, 0.8)], objective_s=0.5) == 0

    @unhurried
    @given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), max_size=30))
    def test_no_other_cut_judges_more_rightly(self, seen: list[tuple[float, float]]) -> None:
        limit = learn_limit(seen, objective_s=0.5)

        def right(cut: float) -> int:
            return sum((rate <= cut) == (latency_s <= 0.5) for rate, latency_s in seen)

        if limit is not None:
            assert right(limit) >= max(right(cut) for cut in (0.0, *(rate for rate, _ in seen)))
