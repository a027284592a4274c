"""What a trace of a request shows: its stages and their times, and nothing that was sealed.

A span per request has one child for each stage that was passed; the whole set of attributes is `ATTRIBUTES`.
Requests are drawn after their end, from what was written down on their way: tracing that is off costs
nothing, and imports nothing. Every trace begins here: a caller's context stays outside.

A trace tells more of one request than metrics may: its outcome, and how long it computed. So an enclave
traces only where its measured image holds the libraries, and whoever accepts the image accepts that.

Source: docs/spec/model-server.md, "Traces".
"""

from collections.abc import Callable

from s3ml.modelserver.tally import Outcome
from s3ml.modelserver.timing import Stage, Timing

# At most ten requests a second are traced: seven spans cost more than a small request does.
LEAST_GAP_S = 0.1
# Draws a request that has ended, of which `finished_s` is set.
Trace = Callable[[Outcome, Timing], None]
ATTRIBUTES = frozenset({"s3ml.service", "s3ml.outcome", "http.request.body.size"})
REQUEST_SPAN = "s3ml.request"
# Each stage: the name of its span, and where it begins and ends.
STAGES: tuple[tuple[str, Stage, Stage], ...] = (
    ("s3ml.open", "begun_s", "opened_s"),
    ("s3ml.decode", "opened_s", "queued_s"),
    ("s3ml.queue", "queued_s", "started_s"),
    ("s3ml.compute", "started_s", "computed_s"),
    ("s3ml.encode", "computed_s", "encoded_s"),
    ("s3ml.seal", "encoded_s", "finished_s"),
)


def untraced(_outcome: Outcome, _timing: Timing) -> None:
    """Draw nothing."""
