"""What a measurement and the process that makes it say to each other: one JSON object a line, both ways.

The process loads on `Load`, answers `Loaded`, then measures on `Measure` and answers `Measured`, or runs on
`Repeat` and answers `Repeated`, any number of times; or answers `Failed`.
A measurement that answered `Failed` is over.
"""

import msgspec

from s3ml.bundle.contents import Datatype
from s3ml.bundle.profile import Library, Memory, Point

LINE_LIMIT_BYTES = 1 << 20
DURATIONS_LIMIT = 10_000


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input as the model declares it; -1 where any size will do."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Open this model, from the path that `s3ml model pack` would take, for runs on so many threads."""

    path: str
    threads: int


class Loaded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The model is open; what that took.

    Args:
        is_batchable: Whether the model server could batch requests to it.
    """

    platform: str
    inputs: tuple[Declared, ...]
    is_batchable: bool
    process: Memory
    model: Memory
    peak_bytes: int
    duration_s: float
    libraries: tuple[Library, ...]


class Measure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Run batches of this many rows for this long, of samples from a file or else random ones.

    Args:
        shapes: The sizes of each input at batch 1.
        is_batched: Whether `batch` replaces their first dimension.
    """

    batch: int
    duration_s: float
    shapes: dict[str, tuple[int, ...]]
    is_batched: bool
    samples: str | None


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """What was measured."""

    point: Point


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Run one batch of one row again and again for this long; `Measure` says what it is fed."""

    duration_s: float
    shapes: dict[str, tuple[int, ...]]
    is_batched: bool
    samples: str | None


class Repeated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """How many runs there were, and how long the first of them took: `DURATIONS_LIMIT` at most."""

    runs: int
    durations_ns: tuple[int, ...]


class Failed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """It cannot be done, and why, in one line."""

    reason: str


Question = Load | Measure | Repeat
Answer = Loaded | Measured | Repeated | Failed


def encode_line(message: Question | Answer) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def parse_question(line: bytes) -> Question:
    """Parse a line to the process.

    Raises:
        msgspec.DecodeError: it is no question.
    """
    question: Question = msgspec.json.decode(line, type=Question)
    return question


def parse_answer(line: bytes) -> Answer:
    """Parse a line from the process.

    Raises:
        msgspec.DecodeError: it is no answer.
    """
    answer: Answer = msgspec.json.decode(line, type=Answer)
    return answer
