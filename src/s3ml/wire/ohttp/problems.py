"""The two problem documents that a gateway answers with.

Source: RFC 9458, sections 5.3 and 6.5.2; RFC 9457.
"""

from dataclasses import dataclass

import msgspec

from s3ml.primitives.units import KIB

PROBLEM_MEDIA_TYPE = "application/problem+json"
_PROBLEM_LIMIT_BYTES = 4 * KIB


class _Document(msgspec.Struct):
    type: str = "about:blank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem type with the status and the title it is answered with."""

    type: str
    title: str
    status: int = 400

    @property
    def content(self) -> bytes:
        """The document, as JSON."""
        return msgspec.json.encode({"type": self.type, "title": self.title})


OHTTP_KEY_PROBLEM = Problem(
    type="https://iana.org/assignments/http-problem-types#ohttp-key", title="key identifier unknown"
)
DATE_PROBLEM = Problem(
    type="https://iana.org/assignments/http-problem-types#date",
    title="date field in request outside of acceptable range",
)


def is_problem(problem: Problem, *, media_type: str | None, content: bytes | memoryview) -> bool:
    """Tell whether an answer (from an untrusted peer) is `problem`."""
    if (media_type or "").partition(";")[0].strip().lower() != PROBLEM_MEDIA_TYPE:
        return False
    if len(content) > _PROBLEM_LIMIT_BYTES:
        return False
    try:
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return document.type == problem.type
