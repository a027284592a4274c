"""What a witness is asked: a checkpoint, and the proof that it appends to one of an earlier size.

Source: C2SP tlog-witness v1.0.0, section "add-checkpoint".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from s3ml.primitives.encoding import SHA256_BYTES, from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB
from s3ml.transparency.checkpoint import Checkpoint, parse_checkpoint, parse_size
from s3ml.transparency.note import Note, NoteRejectedError

REQUEST_LIMIT_BYTES = 64 * KIB
PROOF_LIMIT = 63


class RequestMalformedError(ConfigurationError):
    """A request to a witness does not have the form of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """A parsed request; neither its signatures nor its proof are verified.

    Args:
        old_size: The size that the witness is expected to know.
        proof: Hashes of 32 bytes, at most 63.
        note: The checkpoint's note.
        checkpoint: What the note says.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> "AddCheckpoint":
        """Read the body of a request.

        Args:
            body: From an untrusted peer, at most 64 KiB.

        Raises:
            RequestMalformedError: malformed, or beyond a limit.
        """
        if len(body) > REQUEST_LIMIT_BYTES:
            raise RequestMalformedError(f"request: expected at most {REQUEST_LIMIT_BYTES} bytes")
        try:
            head, _, note = body.decode("utf-8").partition("\n\n")
            old, *proof = head.split("\n")
            if not old.startswith("old "):
                raise RequestMalformedError("request: expected a first line 'old <size>'")
            if len(proof) > PROOF_LIMIT:
                raise RequestMalformedError(f"request: expected at most {PROOF_LIMIT} hashes of proof")
            parsed = Note.parse(note)
            return cls(
                old_size=parse_size(old.removeprefix("old "), what="old size"),
                proof=tuple(_hash(line) for line in proof),
                note=parsed,
                checkpoint=parse_checkpoint(parsed.text),
            )
        except UnicodeDecodeError as error:
            raise RequestMalformedError("request: expected UTF-8") from error
        except NoteRejectedError as error:
            raise RequestMalformedError(f"request: {error}") from error


def encode_request(*, old_size: int, proof: Sequence[bytes], note: str) -> bytes:
    """Return the body of a request.

    Raises:
        ConfigurationError: it would exceed what a witness accepts.
    """
    lines = [f"old {old_size}", *(to_base64(item) for item in proof)]
    body = ("\n".join(lines) + "\n\n" + note).encode()
    if len(proof) > PROOF_LIMIT or len(body) > REQUEST_LIMIT_BYTES:
        raise ConfigurationError(
            f"witness request: expected at most {PROOF_LIMIT} hashes of proof and {REQUEST_LIMIT_BYTES} "
            f"bytes, got {len(proof)} and {len(body)}"
        )
    return body


def _hash(line: str) -> bytes:
    try:
        data = from_base64(line, what="proof")
    except ConfigurationError as error:
        raise RequestMalformedError(f"request: {error}") from error
    if len(data) != SHA256_BYTES:
        raise RequestMalformedError(f"request: proof: expected hashes of {SHA256_BYTES} bytes")
    return data
