"""A witness's secret: its name and Ed25519 key in one line, so that neither is used without the other.

The line is ``PRIVATE+KEY+<name>+<key id>+<base64 of 0x04 and the 32 private bytes>``.

Source: golang.org/x/mod/sumdb/note (encoding of signer keys); C2SP tlog-cosignature v1.0.0 (key id).
"""

from datetime import datetime

from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.cosignature import WitnessKey, cosign
from s3ml.transparency.note import SignatureType

PREFIX = "PRIVATE+KEY+"
_RAW_BYTES = 32


class WitnessSigner:
    """Signs as one witness; its `repr` shows the public half only.

    Args:
        name: The witness's.
        key: Used for nothing else.

    Attributes:
        public: The name and the public key.

    Raises:
        ConfigurationError: `name` cannot name a witness.
    """

    __slots__ = ("_key", "public")

    def __init__(self, name: str, key: SigningKey) -> None:
        self.public = WitnessKey(name=name, key=key.public)
        self._key = key

    @classmethod
    def generate(cls, name: str) -> "WitnessSigner":
        """Make a fresh key for the witness `name`.

        Raises:
            ConfigurationError: `name` cannot name a witness.
        """
        return cls(name, SigningKey.generate())

    @classmethod
    def parse(cls, text: str) -> "WitnessSigner":
        """Read a key's line, with white space around it allowed.

        Raises:
            ConfigurationError: it is no such line; the message shows nothing of it.
        """
        failure = f"witness key: expected a line that begins with {PREFIX}, as `s3ml witness key` writes it"
        try:
            name, key_id, encoded = text.strip().removeprefix(PREFIX).split("+", 2)
            data = from_base64(encoded, what="witness key")
        except (ValueError, ConfigurationError):
            raise ConfigurationError(failure) from None
        kind, raw = data[:1], data[1:]
        if not text.strip().startswith(PREFIX) or kind != bytes([SignatureType.COSIGNATURE]):
            raise ConfigurationError(failure)
        if len(raw) != _RAW_BYTES:
            raise ConfigurationError(failure)
        signer = cls(name, SigningKey.from_raw(raw))
        if key_id != signer.public.key_id.hex():
            raise ConfigurationError("witness key: its key id is of another key")
        return signer

    def to_text(self) -> str:
        """Return the key's line without a line feed; a secret."""
        encoded = to_base64(bytes([SignatureType.COSIGNATURE]) + self._key.to_raw())
        return f"{PREFIX}{self.public.name}+{self.public.key_id.hex()}+{encoded}"

    def cosign(self, checkpoint_note: str, *, timestamp: datetime) -> str:
        """Return this witness's signature line on a checkpoint, without a line feed.

        Raises:
            NoteRejectedError: `checkpoint_note` is malformed.
            ConfigurationError: `timestamp` is out of range.
        """
        return cosign(checkpoint_note, name=self.public.name, key=self._key, timestamp=timestamp)

    def __repr__(self) -> str:
        return f"WitnessSigner({self.public})"
