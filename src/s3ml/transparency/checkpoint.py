"""Checkpoints: the size and the root of a log as a signed note that people and witnesses can read.

Source: C2SP tlog-checkpoint v1.0.0.
"""

from dataclasses import dataclass

from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.transparency.note import Note, NoteRejectedError, sign_note

SIZE_LIMIT = 2**63 - 1
_ROOT_BYTES = 32
_SIZE_DIGITS = 19
_BODY_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A head of a log.

    Args:
        origin: The log's name; of a deployment's log, ``s3ml/<deployment id>``.
        size: The number of entries.
        root: The Merkle root over them.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"


def sign_checkpoint(checkpoint: Checkpoint, *keys: SigningKey) -> str:
    """Return `checkpoint` as a note signed by the log's own key, or by the old and the new one."""
    return sign_note(checkpoint.text(), *keys, name=checkpoint.origin)


def open_checkpoint(note: str, *, origin: str, key: VerifyKey) -> Checkpoint:
    """Return the checkpoint in `note`, signed by the log's own key.

    Cosignatures of witnesses are not counted here.

    Raises:
        NoteRejectedError: malformed, of another log, or not signed by `key`.
    """
    parsed = Note.parse(note)
    if not parsed.is_signed(origin, key):
        raise NoteRejectedError(f"checkpoint: expected a signature of {origin}")
    checkpoint = parse_checkpoint(parsed.text)
    if checkpoint.origin != origin:
        raise NoteRejectedError(f"checkpoint: expected the origin {origin}, a size and a root")
    return checkpoint


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a note as a checkpoint; nobody's signature is verified.

    Further lines are extensions: signed with the rest, and not read.

    Raises:
        NoteRejectedError: malformed.
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < _BODY_LINES or not all(lines):
        raise NoteRejectedError("checkpoint: expected an origin, a size and a root, and no empty line")
    size = parse_size(lines[1], what="checkpoint")
    try:
        root = from_base64(lines[2], what="checkpoint root")
    except ConfigurationError as error:
        raise NoteRejectedError(f"{error}") from error
    if len(root) != _ROOT_BYTES:
        raise NoteRejectedError(f"checkpoint root: expected {_ROOT_BYTES} bytes, got {len(root)}")
    return Checkpoint(origin=lines[0], size=size, root=root)


def parse_size(text: str, *, what: str) -> int:
    """Read a decimal number of entries, at most 2⁶³-1.

    Raises:
        NoteRejectedError: no number, a larger one, or with leading zeros.
    """
    if text.isascii() and text.isdigit() and len(text) <= _SIZE_DIGITS:
        size = int(text)
        if size <= SIZE_LIMIT and str(size) == text:
            return size
    raise NoteRejectedError(f"{what}: expected a decimal size without leading zeros")
