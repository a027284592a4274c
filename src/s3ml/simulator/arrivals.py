"""When requests are meant to be sent: open loop, whether or not earlier ones were answered."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from s3ml.primitives.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Intervals of one mean, more or less bursty.

    Args:
        rate_per_s: Requests per second in the mean; positive.
        cv: The intervals' standard deviation over their mean: 1 is a Poisson process, more comes in bursts
            (Gamma
            intervals), 0 is regular.
    """

    rate_per_s: float
    cv: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what describes no arrivals."""
        if not self.rate_per_s > 0 or self.cv < 0:
            raise ConfigurationError(
                f"arrivals: expected a positive rate and no negative cv, got {self.rate_per_s} and {self.cv}"
            )

    def times(self, draw: Random, until_s: float) -> Iterator[float]:
        """Yield instants from 0 to `until_s`, in order; the same draws give the same instants."""
        at_s = self._interval_s(draw)
        while at_s < until_s:
            yield at_s
            at_s += self._interval_s(draw)

    def _interval_s(self, draw: Random) -> float:
        if self.cv == 0:
            return 1 / self.rate_per_s
        if self.cv == 1:
            return draw.expovariate(self.rate_per_s)
        shape = 1 / self.cv**2
        return draw.gammavariate(shape, 1 / (shape * self.rate_per_s))
