"""How often something may happen: token buckets, pure given the time."""

from dataclasses import dataclass

from s3ml.primitives.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something may happen.

    Args:
        per_s: In the long run, times per second.
        burst: At once, after a rest.

    Raises:
        ConfigurationError: it would never happen.
    """

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ConfigurationError(
                f"rate: expected more than 0 per second and a burst of at least 1, got {self.per_s} "
                f"and {self.burst}"
            )


class TokenBucket:
    """Counts what happens against a rate; begins full.

    Args:
        rate: How often it may.
        now_s: Monotonic.
    """

    __slots__ = ("_rate", "_tokens", "_updated_s")

    def __init__(self, rate: Rate, *, now_s: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._updated_s = now_s

    def take(self, *, now_s: float) -> float:
        """Take a token where there is one.

        Returns:
            0.0 where it was taken; otherwise after how many seconds there is one.
        """
        rate, passed_s = self._rate, max(0.0, now_s - self._updated_s)
        self._tokens = min(float(rate.burst), self._tokens + passed_s * rate.per_s)
        self._updated_s = max(self._updated_s, now_s)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / rate.per_s
