"""TEE memory that is only computed: counts come from a model, for the simulator and for tests.

Nothing is measured; every reading says so by its kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import pi, sin

from s3ml.primitives.clock import Clock
from s3ml.primitives.units import MIB
from s3ml.tee_memory.reading import PAGE_BYTES, Counts, Kind, Source

# What a first-generation EPC leaves to enclaves.
DEMONSTRATION_CAPACITY_BYTES = 93 * MIB
_PERIOD_S = 60.0
_PEAK_PAGES_PER_S = 2000.0


class SimulatedSource:
    """Counts what a model says.

    Args:
        model: The counts at a monotonic instant; must not go down with time.
        clock: Says which instant it is.
        name: For people.
    """

    __slots__ = ("_clock", "_model", "_name")

    def __init__(
        self, model: Callable[[float], Counts], clock: Clock, *, name: str = "simulated model"
    ) -> None:
        self._model = model
        self._clock = clock
        self._name = name

    @property
    def kind(self) -> Kind:
        """Simulated."""
        return Kind.SIMULATED

    @property
    def name(self) -> str:
        """What the model is called."""
        return self._name

    def count(self) -> Counts:
        """Return the model's counts at this instant, whatever instant the model gave them."""
        now_s = self._clock.monotonic_s()
        return replace(self._model(now_s), taken_at_s=now_s)

    def close(self) -> None:
        """Do nothing: nothing was set up."""


class SimulatedServers:
    """Servers whose paging is computed.

    Args:
        models: By name; may change from one look to the next.
        clock: Says which instant it is.
    """

    def __init__(self, models: Mapping[str, Callable[[float], Counts]], clock: Clock) -> None:
        self._models = models
        self._clock = clock

    def names(self) -> list[str]:
        """Return those that there are now."""
        return list(self._models)

    def source(self, name: str) -> Source:
        """Return one server's source."""
        return SimulatedSource(self._models[name], self._clock, name=f"simulated server {name}")


def demonstration(now_s: float) -> Counts:
    """Return the counts of a node whose paging swells and ebbs once a minute; for looking at an agent.

    Args:
        now_s: Monotonic and not negative.
    """
    phase = 2 * pi * now_s / _PERIOD_S
    # The integral of a rate that is never negative: peak x (1 - cos) / 2.
    pages = int(_PEAK_PAGES_PER_S / 2 * (now_s - sin(phase) * _PERIOD_S / (2 * pi)))
    return Counts(
        taken_at_s=now_s,
        capacity_bytes=DEMONSTRATION_CAPACITY_BYTES,
        resident_bytes=DEMONSTRATION_CAPACITY_BYTES,
        evicted_bytes=PAGE_BYTES * pages % DEMONSTRATION_CAPACITY_BYTES,
        page_ins=pages,
        page_outs=pages,
    )
