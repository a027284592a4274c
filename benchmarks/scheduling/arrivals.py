"""When requests are meant to be sent: renewal processes by seed, the same for every policy.

Gaps are Gamma distributed with a mean of 1 / rate and a coefficient of variation that is chosen: 1 is
Poisson's exponential, 3 sends in bursts with pauses between them.
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """A way in which requests come.

    Args:
        rate_per_s: Mean number in a second; more than 0.
        cv: Coefficient of variation of the gaps; more than 0.
    """

    rate_per_s: float
    cv: float = 1.0

    def __post_init__(self) -> None:
        if self.rate_per_s <= 0 or self.cv <= 0:
            raise ValueError(f"arrivals: expected a rate and a cv above 0, got {self.rate_per_s}, {self.cv}")

    @property
    def name(self) -> str:
        """A word for results: "poisson", or "gamma-3" by its coefficient of variation."""
        return "poisson" if self.cv == 1 else f"gamma-{self.cv:g}"

    def times(self, lasting_s: float, seed: int) -> list[float]:
        """Return the instants from 0 to `lasting_s` at which to send, in order."""
        draw = Random(f"arrivals {self.rate_per_s} {self.cv} {seed}")  # noqa: S311 - must come out the same
        shape = 1 / self.cv**2
        scale = 1 / (self.rate_per_s * shape)
        found: list[float] = []
        at_s = draw.gammavariate(shape, scale)
        while at_s < lasting_s:
            found.append(at_s)
            at_s += draw.gammavariate(shape, scale)
        return found
