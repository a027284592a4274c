"""What the client's logic asks of the outside: a generator yields steps, a shell performs them.

The logic is written once; the blocking and the asynchronous shell differ only in how they perform a step.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from s3ml.primitives.units import MIB

# From here on work leaves the event loop, and a body is sent in pieces.
HEAVY_BYTES = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequest:
    """A request to the gateway.

    Args:
        method: GET or POST.
        path: Begins with a slash; appended to the gateway's URL.
        content_type: Of `body`.
        body: What to send.
        timeout_s: After which the attempt has failed.
        limit_bytes: The largest reply that is read.
    """

    method: Literal["GET", "POST"]
    path: str
    content_type: str
    body: bytes
    timeout_s: float
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPReply:
    """A reply from the untrusted gateway; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a request; answers an `HTTPReply`, or raises `TransientError`."""

    request: HTTPRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait; answers nothing."""

    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Call `work`, off the event loop when it goes through many bytes; answers what it returns."""

    work: Callable[[], Any]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Run `program` while nobody else runs one under the same `name`; answers what it returns.

    Where somebody does, wait for at most `timeout_s` and then raise `TransientError`; with a timeout of 0
    answer None at once.
    """

    name: str
    program: Callable[[], "Program[Any]"]
    timeout_s: float


Step = Send | Pause | Compute | Alone

Result = TypeVar("Result")
Program = Generator[Step, Any, Result]
