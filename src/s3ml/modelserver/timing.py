"""When one request passed each stage of its way: what metrics sum up and traces draw.

Monotonic instants and two sizes, nothing that a caller sent. Whoever handles the request writes them down as
it passes; they are read once, at its end.
"""

from dataclasses import dataclass
from typing import Literal

Stage = Literal["begun_s", "opened_s", "queued_s", "started_s", "computed_s", "encoded_s", "finished_s"]

_OVERLOADED = 503


@dataclass(slots=True, kw_only=True)
class Timing:
    """The stages of one request; None is a stage that it did not reach.

    Args:
        begun_s: When its body was there, monotonic.
        opened_s: When it was open and its caller let through.
        queued_s: When it was decoded and began to wait for its turn.
        started_s: When the execution that it is part of began.
        computed_s: When that execution had ended with a result.
        encoded_s: When its answer was encoded.
        finished_s: When its answer was sealed.
        is_inference: Whether it asks for an inference, not for metadata or health.
        rows: How many inferences it asks for: the size of its first dimension.
        body_bytes: Its sealed and padded size, which everybody outside sees.
    """

    begun_s: float
    opened_s: float | None = None
    queued_s: float | None = None
    started_s: float | None = None
    computed_s: float | None = None
    encoded_s: float | None = None
    finished_s: float | None = None
    is_inference: bool = False
    rows: int = 0
    body_bytes: int = 0

    def was_turned_away(self, status: int) -> bool:
        """Tell whether a request that ended with the inner `status` was opened, and found no place.

        A replica that turns work away because it has enough is healthy: to take it out for that would send
        its work to the others.
        """
        return status == _OVERLOADED and self.opened_s is not None and self.started_s is None
