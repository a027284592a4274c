"""When simulated requests are sent."""

import statistics
from itertools import pairwise
from random import Random

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator import Arrivals


def instants(arrivals: Arrivals, seed: int, until_s: float = 9.0) -> list[float]:
    return list(arrivals.times(Random(seed), until_s))  # noqa: S311 - a test that repeats


class TestIntervals:
    """They have the mean and the burstiness that were asked for."""

    @pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
    def test_they_have_the_mean_and_the_cv(self, cv: float) -> None:
        times = instants(Arrivals(rate_per_s=200, cv=cv), 4, until_s=400)
        intervals = [after - before for before, after in pairwise(times)]

        assert statistics.fmean(intervals) == pytest.approx(1 / 200, rel=0.05)
        assert statistics.pstdev(intervals) * 200 == pytest.approx(cv, rel=0.1, abs=1e-9)

    def test_the_same_seed_gives_the_same_instants(self) -> None:
        arrivals = Arrivals(rate_per_s=50, cv=3)

        assert instants(arrivals, 1) == instants(arrivals, 1)
        assert instants(arrivals, 1) != instants(arrivals, 2)

    @pytest.mark.parametrize(("rate_per_s", "cv"), [(0, 1), (-1, 1), (float("nan"), 1), (1, -0.1)])
    def test_what_describes_none_is_refused(self, rate_per_s: float, cv: float) -> None:
        with pytest.raises(ConfigurationError, match="expected a positive rate"):
            Arrivals(rate_per_s=rate_per_s, cv=cv)
