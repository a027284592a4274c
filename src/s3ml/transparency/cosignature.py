"""Cosignatures: what witnesses say about a checkpoint, and how many of them it takes.

A cosignature is a line of the checkpoint's note. It says: at this time, this head is the largest that I have
seen of this log, and it only appends to every head that I cosigned before. It covers the note's whole text,
and not the witness's name: a key that stood under two names could be counted twice, so `check_witnesses`
refuses that.

Source: C2SP tlog-cosignature v1.0.0 (cosignature/v1, Ed25519) and signed-note v1.0.0 (verifier keys).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from s3ml.primitives.encoding import from_base64, from_hex, to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SIGNATURE_BYTES, SigningKey, VerifyKey
from s3ml.transparency.note import (
    KEY_ID_BYTES,
    Note,
    NoteRejectedError,
    NoteSignature,
    SignatureType,
    is_key_name,
    note_key_id,
)

_TIMESTAMP_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_S = int((datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds())


class QuorumMissingError(NoteRejectedError):
    """A checkpoint carries the cosignatures of too few witnesses: it is not committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """A witness's name and public key; its text is the vkey that C2SP tools exchange.

    Args:
        name: Such as ``witness.example.com/w1``.
        key: Of Ed25519.
    """

    name: str
    key: VerifyKey

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise ConfigurationError(
                f"witness name: expected 1 to 255 characters without spaces or plus, got {self.name[:80]!r}"
            )

    @classmethod
    def parse(cls, text: str) -> "WitnessKey":
        """Read ``<name>+<key id in hexadecimal>+<base64 of 0x04 and 32 bytes of Ed25519>``.

        Raises:
            ConfigurationError: malformed, another signature type, or a key id of another key.
        """
        match text.split("+", 2):
            case [name, key_id, encoded]:
                data = from_base64(encoded, what="witness key")
            case _:
                raise ConfigurationError(
                    "witness key: expected <name>+<key id>+<base64>, as its witness printed it"
                )
        if data[:1] != bytes([SignatureType.COSIGNATURE]):
            raise ConfigurationError(
                f"witness key of {name[:80]!r}: expected signature type 04 (cosignature/v1), "
                f"got {data[:1].hex() or 'none'}"
            )
        witness = cls(name=name, key=VerifyKey(data[1:]))
        if from_hex(key_id, what="witness key id", size_bytes=KEY_ID_BYTES) != witness.key_id:
            raise ConfigurationError(
                f"witness key of {name[:80]!r}: expected key id {witness.key_id.hex()}, got {key_id}"
            )
        return witness

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that its signature lines carry."""
        return note_key_id(self.name, self.key, SignatureType.COSIGNATURE)

    def __str__(self) -> str:
        encoded = to_base64(bytes([SignatureType.COSIGNATURE]) + self.key.raw)
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


def check_witnesses(witnesses: Iterable[WitnessKey]) -> None:
    """Check that each name and each key is there once.

    Raises:
        ConfigurationError: one is repeated: it would be counted twice.
    """
    names: set[str] = set()
    keys: set[VerifyKey] = set()
    for witness in witnesses:
        if witness.name in names or witness.key in keys:
            raise ConfigurationError(
                f"witnesses: expected each name and each key once, got {witness.name} again"
            )
        names.add(witness.name)
        keys.add(witness.key)


def cosign(checkpoint_note: str, *, name: str, key: SigningKey, timestamp: datetime) -> str:
    """Return the signature line of a witness on a checkpoint, without a line feed.

    What is signed is not judged here.

    Args:
        checkpoint_note: The checkpoint as a signed note; its signature lines are not covered.
        name: The witness's.
        key: The witness's.
        timestamp: Aware; after 1970; the part below a second is cut off.

    Raises:
        NoteRejectedError: `checkpoint_note` is malformed.
        ConfigurationError: `timestamp` is out of range.
    """
    seconds = (timestamp - _EPOCH) // timedelta(seconds=1)
    if not 0 < seconds <= _LAST_S:
        raise ConfigurationError(f"cosignature: expected a time after 1970, got {timestamp}")
    signature = key.sign(_message(Note.parse(checkpoint_note).text, seconds))
    key_id = note_key_id(name, key.public, SignatureType.COSIGNATURE)
    stamped = seconds.to_bytes(_TIMESTAMP_BYTES, "big") + signature
    return str(NoteSignature(name=name, key_id=key_id, signature=stamped))


def verified_cosignatures(note: str, witnesses: Sequence[WitnessKey]) -> Mapping[str, datetime]:
    """Return which of `witnesses` cosigned `note`, and when they say they did; the newest time of each.

    A line that does not hold counts for nothing, and does not make the note less than it would be without it:
    anybody can add a line. Lines of unknown names or key ids are passed over.

    Args:
        note: From an untrusted peer, at most 64 KiB.
        witnesses: Each name and key once.

    Raises:
        NoteRejectedError: `note` is malformed.
        ConfigurationError: `witnesses` repeat a name or a key.
    """
    parsed = Note.parse(note)
    return {
        witness.name: held[1]
        for witness in _checked(witnesses)
        if (held := _newest(parsed.text, parsed.signatures, witness)) is not None
    }


def has_quorum(cosignatures: Mapping[str, datetime], quorum: int) -> bool:
    """Tell whether verified cosignatures are enough; a quorum of 0 needs none and protects from nothing."""
    return len(cosignatures) >= quorum


def require_quorum(note: str, witnesses: Sequence[WitnessKey], quorum: int) -> Mapping[str, datetime]:
    """Return the verified cosignatures of `note`, at least `quorum` of them.

    Raises:
        QuorumMissingError: there are fewer.
        NoteRejectedError: `note` is malformed.
        ConfigurationError: `witnesses` repeat a name or a key.
    """
    found = verified_cosignatures(note, witnesses)
    if not has_quorum(found, quorum):
        raise QuorumMissingError(
            f"checkpoint: expected cosignatures of {quorum} of {len(witnesses)} witnesses, "
            f"got {len(found)}: {', '.join(found) or 'none'}"
        )
    return found


def with_cosignatures(note: str, lines: Iterable[str], witnesses: Sequence[WitnessKey]) -> str:
    """Return `note` with those of `lines` that hold, the newest of each witness, in the order of `witnesses`.

    Idempotent, and independent of the order of `lines`. Lines of others that `note` has already, such as the
    log's own signature, stay in front; lines of `witnesses` that do not hold are left out.

    Args:
        note: A checkpoint.
        lines: Signature lines without line feeds, from untrusted witnesses; a malformed one is left out.
        witnesses: Each name and key once.

    Raises:
        NoteRejectedError: `note` is malformed, or the result exceeds the limits of a note.
        ConfigurationError: `witnesses` repeat a name or a key.
    """
    parsed = Note.parse(note)
    offered = [*parsed.signatures, *_well_formed(lines)]
    held = [_newest(parsed.text, offered, witness) for witness in _checked(witnesses)]
    known = {(witness.name, witness.key_id) for witness in witnesses}
    others = tuple(line for line in parsed.signatures if (line.name, line.key_id) not in known)
    merged = Note(
        text=parsed.text, signatures=(*others, *(newest[0] for newest in held if newest is not None))
    )
    Note.parse(str(merged))
    return str(merged)


def quorum_instant(cosignatures: Mapping[str, datetime], quorum: int) -> datetime | None:
    """Return an instant that has passed, as the witnesses of a quorum say; nothing without a quorum.

    It is the k-th newest of the cosignatures, where k = quorum // 2 + 1, a majority of a quorum: k different
    witnesses say that it has passed. So

    * fewer than k lying witnesses cannot put it ahead of every honest witness's clock;
    * while at least k of those that cosigned are honest, it is no earlier than the k-th newest of theirs, so
      that fewer than quorum - k + 1 lying witnesses cannot hold it back, whichever quorum it is;
    * further cosignatures never lower it.

    With 1 of 1, that witness decides. With a quorum of 2, one liar cannot put it ahead, and can hold it back
    only where no third witness cosigned: a floor that stays where it was is safe, one too high is not. With a
    quorum of 3 or 4, one liar can do neither.

    Args:
        cosignatures: Verified, of one checkpoint.
        quorum: How many the log names.
    """
    if quorum < 1 or not has_quorum(cosignatures, quorum):
        return None
    return sorted(cosignatures.values(), reverse=True)[quorum // 2]


def _checked(witnesses: Sequence[WitnessKey]) -> Sequence[WitnessKey]:
    check_witnesses(witnesses)
    return witnesses


def _message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _well_formed(lines: Iterable[str]) -> list[NoteSignature]:
    found = []
    for line in lines:
        try:
            found.append(NoteSignature.parse(line))
        except NoteRejectedError:
            continue
    return found


def _newest(
    text: str, lines: Iterable[NoteSignature], witness: WitnessKey
) -> tuple[NoteSignature, datetime] | None:
    """Return the newest line of `witness` that holds over `text`, with its time."""
    key_id, newest = witness.key_id, None
    for line in lines:
        if (line.name, line.key_id) == (witness.name, key_id):
            time = _time_of(text, line, witness.key)
            if time is not None and (newest is None or time > newest[1]):
                newest = line, time
    return newest


def _time_of(text: str, line: NoteSignature, key: VerifyKey) -> datetime | None:
    """Return the time of a cosignature that holds; one of no time, or past the year 9999, never does."""
    if len(line.signature) != _TIMESTAMP_BYTES + SIGNATURE_BYTES:
        return None
    seconds = int.from_bytes(line.signature[:_TIMESTAMP_BYTES], "big")
    if not 0 < seconds <= _LAST_S:
        return None
    if not key.is_signed(line.signature[_TIMESTAMP_BYTES:], _message(text, seconds)):
        return None
    return _EPOCH + timedelta(seconds=seconds)
