"""How a balancer runs: the ways to steer a gateway, and how often it does what."""

from dataclasses import dataclass
from enum import StrEnum

from s3ml.primitives.errors import ConfigurationError

INTERVAL_RANGE_S = (0.1, 0.25)
READINGS_INTERVAL_RANGE_S = (0.1, 5.0)


class Steering(StrEnum):
    """How decisions reach the gateway."""

    WEIGHTS = "weights"
    """Each replica's share of the requests until the next step."""
    PICKER = "picker"
    """A replica for each request; weights are written as well, for when no picker answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerSettings:
    """How a balancer runs.

    Args:
        steering: How decisions reach the gateway.
        interval_s: From one step to the next, 0.1 to 0.25 s: four to ten times a second.
        readings_interval_s: From one question to the agents to the next, 0.1 to 5 s.

    Raises:
        ConfigurationError: a value out of bounds.
    """

    steering: Steering = Steering.WEIGHTS
    interval_s: float = 0.2
    readings_interval_s: float = 0.5

    def __post_init__(self) -> None:
        for name, (least, most) in (
            ("interval_s", INTERVAL_RANGE_S),
            ("readings_interval_s", READINGS_INTERVAL_RANGE_S),
        ):
            value: float = getattr(self, name)
            if not least <= value <= most:
                raise ConfigurationError(f"balancer: {name}: expected {least} to {most}, got {value}")
