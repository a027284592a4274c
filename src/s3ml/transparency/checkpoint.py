"""Checkpoints: the size and the root of a log as a signed note that people and witnesses can read.

Source: C2SP tlog-checkpoint v1.
"""

from dataclasses import dataclass

from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.transparency.note import NoteRejectedError, open_note, sign_note

_ROOT_BYTES = 32
_SIZE_DIGITS = 19
_BODY_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A head of the log.

    Args:
        origin: The log's name: ``s3ml/<deployment id>``.
        size: The number of entries.
        root: The Merkle root over them.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return `checkpoint` as a note signed by the log's own key."""
    return sign_note(checkpoint.text(), name=checkpoint.origin, key=key)


def open_checkpoint(note: str, *, origin: str, key: VerifyKey) -> Checkpoint:
    """Return the checkpoint in `note`, signed by the log's own key.

    Cosignatures of witnesses are not counted here.

    Raises:
        NoteRejectedError: malformed, of another log, or not signed by `key`.
    """
    text, signed = open_note(note, {origin: key})
    if origin not in signed:
        raise NoteRejectedError(f"checkpoint: expected a signature of {origin}")
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < _BODY_LINES or lines[0] != origin:
        raise NoteRejectedError(f"checkpoint: expected the origin {origin}, a size and a root")
    size = lines[1]
    if not (size.isascii() and size.isdigit()) or len(size) > _SIZE_DIGITS or size != str(int(size)):
        raise NoteRejectedError("checkpoint: expected a decimal size without leading zeros")
    try:
        root = from_base64(lines[2], what="checkpoint root")
    except ConfigurationError as error:
        raise NoteRejectedError(f"{error}") from error
    if len(root) != _ROOT_BYTES:
        raise NoteRejectedError(f"checkpoint root: expected {_ROOT_BYTES} bytes, got {len(root)}")
    return Checkpoint(origin=origin, size=int(size), root=root)
