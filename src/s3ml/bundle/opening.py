"""Opening: a bundle from an untrusted store becomes a manifest and, in memory only, a model.

The payload is read once. While age decrypts it, its bytes are counted and hashed, and the plaintext is only
cut into members, under limits; the listing is parsed and anything is handed out after the digest of the
whole payload held.
"""

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import pyrage

from s3ml.bundle.archive import BLOCK_BYTES, END, check_zeros, decode_header, padding_bytes
from s3ml.bundle.contents import LISTING_NAME, MANIFEST_NAME, PAYLOAD_NAME, ModelFiles, parse_listing
from s3ml.bundle.cutting import CutFile, MemberCutter
from s3ml.bundle.errors import BundleMalformedError, BundleRejectedError
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES, Envelope, parse_envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB

_READ_BYTES = MIB


class Readable(Protocol):
    """Anything that gives bytes: a file, a reply, an fsspec file."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end."""
        ...


class PayloadStream:
    """The payload of a bundle, read through to its end and not a byte further."""

    __slots__ = ("_file", "_left", "size_bytes")

    def __init__(self, file: Readable, size_bytes: int) -> None:
        self._file, self._left, self.size_bytes = file, size_bytes, size_bytes

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end.

        Raises:
            BundleMalformedError: the bundle ends early, or something follows the payload.
        """
        if self._left == 0:
            return b""
        data = self._file.read(min(size, self._left))
        if not data:
            got = self.size_bytes - self._left
            raise BundleMalformedError(
                f"bundle: truncated: expected {self.size_bytes} bytes of {PAYLOAD_NAME}, got {got}"
            )
        self._left -= len(data)
        if self._left == 0:
            rest = padding_bytes(self.size_bytes) + len(END)
            tail = _read_up_to(self._file, rest + 1)
            check_zeros(tail, what="its last blocks")
            if len(tail) != rest:
                raise BundleMalformedError(f"bundle: expected {rest} bytes after {PAYLOAD_NAME}")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBundle:
    """A bundle whose manifest was read and whose payload was not; neither is trusted yet."""

    manifest: Envelope
    payload: PayloadStream = field(repr=False)


def open_bundle(file: Readable) -> OpenBundle:
    """Read the manifest of a bundle and stop before its payload.

    Args:
        file: From an untrusted store, at its beginning; need not be seekable.

    Returns:
        The manifest, whose signatures the caller checks, and the payload.

    Raises:
        BundleMalformedError: the file is truncated, or no bundle.
    """
    size_bytes = _expect_member(file, MANIFEST_NAME)
    if size_bytes > ENVELOPE_LIMIT_BYTES:
        raise BundleMalformedError(
            f"bundle: expected at most {ENVELOPE_LIMIT_BYTES} bytes of {MANIFEST_NAME}, got {size_bytes}"
        )
    data = _read_exactly(file, size_bytes)
    check_zeros(_read_exactly(file, padding_bytes(size_bytes)), what=f"the padding of {MANIFEST_NAME}")
    try:
        manifest = parse_envelope(data)
    except ConfigurationError as error:
        raise BundleMalformedError(f"bundle: {MANIFEST_NAME}: {error}") from error
    return OpenBundle(manifest=manifest, payload=PayloadStream(file, _expect_member(file, PAYLOAD_NAME)))


def decrypt_payload(
    stream: Readable, identity: str, *, expected_sha256: str, expected_bytes: int, limit_bytes: int
) -> ModelFiles:
    """Decrypt a model into memory and return it once it proved to be the promised one.

    Peak memory is the plaintext once, plus a few MiB.

    Args:
        stream: The payload, from an untrusted store.
        identity: The age identity, ``AGE-SECRET-KEY-1…``; a secret.
        expected_sha256: From a manifest whose signature was checked.
        expected_bytes: Likewise.
        limit_bytes: The largest payload for which there is memory here.

    Raises:
        BundleRejectedError: larger than the limit, another size or digest than expected, or an identity that
            does not open it.
        BundleMalformedError: truncated, or the promised payload, but what it holds is no model in the form of
            a bundle.

    What `stream.read` raises passes through as it is.
    """
    # (1) Limits first.
    if expected_bytes > limit_bytes:
        raise BundleRejectedError(
            f"payload: expected at most {limit_bytes} bytes, got {expected_bytes}: raise the memory limit"
        )
    # (2) Decrypt, count, hash and cut in one pass; never read more than was promised.
    source, cutter = _Measured(stream, expected_bytes), MemberCutter(limit_bytes=expected_bytes)
    is_opened = _decrypt(source, cutter, identity)
    # (3) The promised bytes, all of them?
    source.drain()
    if source.size_bytes != expected_bytes:
        raise BundleRejectedError(f"payload: expected {expected_bytes} bytes, got {source.size_bytes}")
    if source.hexdigest() != expected_sha256:
        raise BundleRejectedError(f"payload: expected SHA-256 {expected_sha256}, got {source.hexdigest()}")
    # (4) Was it encrypted to this identity?
    if not is_opened:
        raise BundleRejectedError("payload: the identity does not open it: expected the one made at packing")
    # (5) Are the files those of the listing?
    return _listed_files(cutter.close())


def _decrypt(source: "_Measured", cutter: MemberCutter, identity: str) -> bool:
    """Tell whether age accepted the whole payload."""
    try:
        key = pyrage.x25519.Identity.from_str(identity)
    except pyrage.IdentityError:
        raise BundleRejectedError("payload: the identity is not an age X25519 identity") from None
    try:
        pyrage.decrypt_io(source, cutter, [key])
    except (pyrage.DecryptError, OSError):
        source.raise_failure()
        return False
    return True


def _listed_files(cut: dict[str, CutFile]) -> ModelFiles:
    """Compare what was cut out with the listing, in its order."""
    if LISTING_NAME not in cut:
        raise BundleMalformedError(f"bundle: expected {LISTING_NAME} first, got an empty archive")
    config = parse_listing(cut.pop(LISTING_NAME).data)
    expected = [(file.name, file.size_bytes, file.sha256) for file in config.files]
    got = [(name, len(file.data), file.sha256) for name, file in cut.items()]
    if got != expected:
        wrong = next((e[0] for e, g in zip(expected, got, strict=False) if e != g), "their number")
        raise BundleMalformedError(f"bundle: its files differ from {LISTING_NAME}, first in {wrong}")
    return ModelFiles(config=config, files=MappingProxyType({name: file.data for name, file in cut.items()}))


class _Measured:
    """Counts and hashes what is read, and remembers why reading failed: pyrage would hide it."""

    __slots__ = ("_digest", "_failure", "_limit_bytes", "_stream", "size_bytes")

    def __init__(self, stream: Readable, limit_bytes: int) -> None:
        self._stream, self._limit_bytes = stream, limit_bytes
        self._digest, self.size_bytes = hashlib.sha256(), 0
        self._failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, and none at the end or one byte past the promised size."""
        if self.size_bytes > self._limit_bytes:
            return b""
        try:
            data = self._stream.read(min(size, self._limit_bytes + 1 - self.size_bytes))
        except BaseException as error:
            self._failure = error
            raise
        self._digest.update(data)
        self.size_bytes += len(data)
        return data

    def drain(self) -> None:
        """Read what age left, so that size and digest speak of the whole payload."""
        while self.read(_READ_BYTES):
            continue

    def raise_failure(self) -> None:
        """Raise what made reading fail, if anything did."""
        if self._failure is not None:
            raise self._failure

    def hexdigest(self) -> str:
        """Return the hexadecimal SHA-256 of everything read."""
        return self._digest.hexdigest()


def _expect_member(file: Readable, name: str) -> int:
    """Read one header of the bundle and return the size of its member."""
    member = decode_header(_read_exactly(file, BLOCK_BYTES))
    if member is None or member.name != name:
        raise BundleMalformedError(
            f"bundle: expected {name}, got {'the end' if member is None else member.name}"
        )
    return member.size_bytes


def _read_exactly(file: Readable, size_bytes: int) -> bytes:
    data = _read_up_to(file, size_bytes)
    if len(data) != size_bytes:
        raise BundleMalformedError("bundle: truncated: it ends before its payload")
    return data


def _read_up_to(file: Readable, size_bytes: int) -> bytes:
    """Read until `size_bytes` are there or the file ends."""
    pieces = bytearray()
    while len(pieces) < size_bytes and (piece := file.read(size_bytes - len(pieces))):
        pieces += piece
    return bytes(pieces)
