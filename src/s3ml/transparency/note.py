"""Signed notes: a text that people can read, with the signatures of those who stand by it.

Source: C2SP signed-note v1 (Ed25519, signature type 0x01).
"""

import hashlib
from collections.abc import Mapping

from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.primitives.units import KIB

NOTE_LIMIT_BYTES = 64 * KIB
SIGNATURES_LIMIT = 64
_ED25519 = b"\x01"
_KEY_ID_BYTES = 4


class NoteRejectedError(UntrustedPeerError):
    """A note is malformed, or a signature that it needs is missing or does not hold."""


def note_key_id(name: str, key: VerifyKey) -> bytes:
    """Return the 4 bytes that say which key a signature line is meant for."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:_KEY_ID_BYTES]


def sign_note(text: str, *, name: str, key: SigningKey) -> str:
    """Return `text` (which ends with a line feed) as a note signed by `key` under `name`."""
    signature = note_key_id(name, key.public) + key.sign(text.encode())
    return f"{text}\n\u2014 {name} {to_base64(signature)}\n"


def open_note(note: str, keys: Mapping[str, VerifyKey]) -> tuple[str, frozenset[str]]:
    """Return the text of `note` and the names of those of `keys` that signed it.

    Lines of unknown names or key ids are passed over, as cosignatures of others.

    Args:
        note: From an untrusted peer, at most 64 KiB.
        keys: The known keys by name.

    Raises:
        NoteRejectedError: malformed, or a known key's signature does not hold.
    """
    if len(note) > NOTE_LIMIT_BYTES or any(c < " " and c != "\n" for c in note):
        raise NoteRejectedError("note: too large, or with control characters")
    text, separator, block = note.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise NoteRejectedError("note: expected a text, an empty line and signature lines")
    lines = block.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_LIMIT:
        raise NoteRejectedError(f"note: expected at most {SIGNATURES_LIMIT} signatures")
    text += "\n"
    signed: set[str] = set()
    for line in lines:
        name, signature = _signature_line(line)
        key = keys.get(name)
        if key is None or signature[:_KEY_ID_BYTES] != note_key_id(name, key):
            continue
        if not key.is_signed(signature[_KEY_ID_BYTES:], text.encode()):
            raise NoteRejectedError(f"note: the signature of {name} does not hold")
        signed.add(name)
    return text, frozenset(signed)


def _signature_line(line: str) -> tuple[str, bytes]:
    match line.split(" "):
        case ["\u2014", name, encoded] if name and "+" not in name:
            try:
                signature = from_base64(encoded, what="note signature")
            except ConfigurationError as error:
                raise NoteRejectedError(f"note: {error}") from error
            if len(signature) > _KEY_ID_BYTES:
                return name, signature
    raise NoteRejectedError("note: malformed signature line")
