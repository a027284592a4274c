"""Signed notes: a text that people can read, with the signatures of those who stand by it.

A signature line is named by its key's name and key id together; the key id also says what kind of signature
it is, so that one line never passes for another.

Source: C2SP signed-note v1.0.0 (signature types 0x01, Ed25519 over the text, and 0x04, timestamped Ed25519).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.primitives.units import KIB

NOTE_LIMIT_BYTES = 64 * KIB
SIGNATURES_LIMIT = 64
KEY_NAME_LIMIT = 255
KEY_ID_BYTES = 4
_DASH = "\u2014"


class NoteRejectedError(UntrustedPeerError):
    """A note is malformed, or a signature that it needs is missing or does not hold."""


class SignatureType(IntEnum):
    """What a signature line is over; the byte that its key id is made with."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line; it proves nothing until it is verified.

    Args:
        name: The name of the key.
        key_id: Which key of that name, and which kind of signature.
        signature: The rest, of at least one byte.
    """

    name: str
    key_id: bytes
    signature: bytes

    @classmethod
    def parse(cls, line: str) -> "NoteSignature":
        """Read a signature line without its line feed.

        Raises:
            NoteRejectedError: malformed.
        """
        match line.split(" "):
            case [dash, name, encoded] if dash == _DASH and is_key_name(name):
                try:
                    data = from_base64(encoded, what="note signature")
                except ConfigurationError as error:
                    raise NoteRejectedError(f"note: {error}") from error
                if len(data) > KEY_ID_BYTES:
                    return cls(name=name, key_id=data[:KEY_ID_BYTES], signature=data[KEY_ID_BYTES:])
        raise NoteRejectedError("note: malformed signature line")

    def __str__(self) -> str:
        return f"{_DASH} {self.name} {to_base64(self.key_id + self.signature)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note that was taken apart; none of its signatures is verified yet.

    Args:
        text: What is signed, with its last line feed.
        signatures: The signature lines, in order.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, note: str) -> "Note":
        """Take `note` apart.

        Args:
            note: From an untrusted peer, at most 64 KiB with at most 64 signature lines.

        Raises:
            NoteRejectedError: malformed, or beyond a limit.
        """
        try:
            size_bytes = len(note.encode())
        except UnicodeEncodeError as error:
            raise NoteRejectedError("note: expected Unicode text") from error
        if size_bytes > NOTE_LIMIT_BYTES or any(c < " " and c != "\n" for c in note):
            raise NoteRejectedError("note: too large, or with control characters")
        text, separator, block = note.rpartition("\n\n")
        if not separator or not block.endswith("\n"):
            raise NoteRejectedError("note: expected a text, an empty line and signature lines")
        lines = block.removesuffix("\n").split("\n")
        if len(lines) > SIGNATURES_LIMIT:
            raise NoteRejectedError(f"note: expected at most {SIGNATURES_LIMIT} signatures")
        return cls(text=text + "\n", signatures=tuple(NoteSignature.parse(line) for line in lines))

    def is_signed(self, name: str, key: VerifyKey) -> bool:
        """Tell whether `key` signed the text under `name` (type 0x01).

        Raises:
            NoteRejectedError: a line of this key does not hold.
        """
        key_id, message, is_signed = note_key_id(name, key), self.text.encode(), False
        for line in self.signatures:
            if (line.name, line.key_id) == (name, key_id):
                if not key.is_signed(line.signature, message):
                    raise NoteRejectedError(f"note: the signature of {name} does not hold")
                is_signed = True
        return is_signed

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(f"{line}\n" for line in self.signatures)


def is_key_name(name: str) -> bool:
    """Tell whether `name` may name a key: 1 to 255 characters, no white space, control character or plus."""
    return 0 < len(name) <= KEY_NAME_LIMIT and not any(c == "+" or c <= " " or c.isspace() for c in name)


def note_key_id(name: str, key: VerifyKey, kind: SignatureType = SignatureType.ED25519) -> bytes:
    """Return the 4 bytes that say which key, and which kind of signature, a signature line is of."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key.raw).digest()[:KEY_ID_BYTES]


def sign_note(text: str, *keys: SigningKey, name: str) -> str:
    """Return `text` (which ends with a line feed) as a note signed by each of `keys` under `name`."""
    lines = tuple(
        NoteSignature(name=name, key_id=note_key_id(name, key.public), signature=key.sign(text.encode()))
        for key in keys
    )
    return str(Note(text=text, signatures=lines))


def open_note(note: str, keys: Mapping[str, VerifyKey]) -> tuple[str, frozenset[str]]:
    """Return the text of `note` and the names of those of `keys` that signed it.

    Lines of unknown names or key ids are passed over, as cosignatures of others.

    Args:
        note: From an untrusted peer, at most 64 KiB.
        keys: The known keys by name.

    Raises:
        NoteRejectedError: malformed, or a known key's signature does not hold.
    """
    parsed = Note.parse(note)
    return parsed.text, frozenset(name for name, key in keys.items() if parsed.is_signed(name, key))
