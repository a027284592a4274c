"""What a replica has and is at this moment: keys, models, and the phase that it is in.

Changed on the event loop only. Keys are gone at the end of their lease whether or not anybody was awake to
take them away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from s3ml.modelserver.callers import Gate
from s3ml.modelserver.health import AnswerHealth
from s3ml.modelserver.models import ModelSet
from s3ml.modelserver.rates import RateLimiter
from s3ml.wire.sealed import KeyRing

WAITING = "waiting for the service"
SERVING = "serving"
DRAINING = "draining"
FAILING = "failing: too many of its recent answers were errors"
NO_MODELS = "no model could be loaded"


@dataclass(slots=True, kw_only=True)
class Serving:
    """The state that the event loop's parts share.

    Args:
        phase: One line for people: where the process stands with the key service. Never holds a secret.
        models: What is loaded.
        is_draining: Set once, when the process is asked to end.
        health: Of recent sealed answers.
        rates: Of callers, for the whole life of the process, whatever happens to its keys.
    """

    phase: str = WAITING
    models: ModelSet = field(default_factory=ModelSet)
    is_draining: bool = False
    health: AnswerHealth = field(default_factory=AnswerHealth)
    rates: RateLimiter = field(default_factory=RateLimiter)
    _ring: KeyRing | None = field(default=None, repr=False)
    _gate: Gate | None = field(default=None, repr=False)
    _ends_at_s: float = 0.0

    def grant(
        self,
        ring: KeyRing,
        models: ModelSet,
        *,
        gate: Gate,
        ends_at_s: float,
        failures: Sequence[str] = (),
    ) -> None:
        """Take over the keys and models of a release, until a monotonic instant.

        Args:
            ring: The keys.
            models: What could be loaded.
            gate: Who may call.
            ends_at_s: Monotonic.
            failures: Why other models could not, a line each.
        """
        self._ring, self._gate, self._ends_at_s, self.models = ring, gate, ends_at_s, models
        self.phase = SERVING if models.is_servable else ": ".join((NO_MODELS, *failures[:1]))

    def replace_models(self, models: ModelSet) -> None:
        """Serve other models under the same keys; none where there are no keys any more."""
        if self._ring is not None:
            self.models = models
            if models.is_servable:
                self.phase = SERVING
            elif not self.phase.startswith(NO_MODELS):  # what is known of the reason stays
                self.phase = NO_MODELS

    def wipe(self) -> None:
        """Let go of all keys and models."""
        self._ring, self._gate, self.models = None, None, ModelSet()

    def keys(self, now_s: float) -> KeyRing | None:
        """Return the keys while their lease lasts."""
        if self._ring is not None and now_s >= self._ends_at_s:
            self.wipe()
        return self._ring

    def door(self, now_s: float) -> tuple[KeyRing, Gate] | None:
        """Return the keys with the rules about callers that came with them, while their lease lasts."""
        ring = self.keys(now_s)
        return None if ring is None or self._gate is None else (ring, self._gate)

    def lease_left_s(self, now_s: float) -> float:
        """Return how long the keys may still be held; 0 without any."""
        return 0.0 if self.keys(now_s) is None else self._ends_at_s - now_s

    def unready_phase(self, now_s: float) -> str | None:
        """Return why no traffic should come here, or None when it should."""
        if self.is_draining:
            return DRAINING
        if self.keys(now_s) is None:
            return self.phase
        if not self.models.is_servable:
            return self.phase
        if self.health.is_failing(now_s=now_s):
            return FAILING
        return None
