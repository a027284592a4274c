"""Packing: a model becomes an age payload, and the payload with its signed manifest a bundle file.

Memory stays bounded whatever the size of the model. A file appears under its name only when it is whole.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyrage

from s3ml.bundle.archive import END, Member, encode_header, padding_bytes
from s3ml.bundle.contents import (
    LISTING_NAME,
    MANIFEST_NAME,
    PAYLOAD_NAME,
    Declaration,
    ListedFile,
    ModelConfig,
    encode_listing,
)
from s3ml.bundle.source import READ_BYTES, Source, changed, inspect_source
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES, Envelope
from s3ml.primitives.errors import ConfigurationError

Progress = Callable[[int, int], None]
_NOTHING_DECLARED = Declaration()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedPayload:
    """What the model owner must sign (digest and size) and seal (the identity, a secret)."""

    identity: str = field(repr=False)
    sha256: str
    size_bytes: int


def encrypt_payload(
    source: Path,
    destination: Path,
    *,
    progress: Progress,
    declaration: Declaration = _NOTHING_DECLARED,
    leave_out: frozenset[str] = frozenset(),
) -> EncryptedPayload:
    """Encrypt a model under a fresh age identity.

    Reads every file twice: once for its digest, once to encrypt it.

    Args:
        source: An ONNX or LiteRT file, or a folder with ``model.onnx`` and its external data, or with
            ``model.tflite``.
        destination: Becomes the age file, mode 0644; what was there is replaced.
        progress: Called after each piece with the bytes read so far and the bytes to read in all.
        declaration: What the listing says of the model; not compared with it here.
        leave_out: Names of files of a folder that are not the model's.

    Returns:
        The identity, and the digest and size of the age file. The recipient is given to nobody: only who
        holds it could make another payload that the identity opens.

    Raises:
        ConfigurationError: no model at `source`, a file that changes while it is read, or a destination
            that cannot be written. Nothing is left at `destination` then.
    """
    files = inspect_source(source, leave_out=leave_out)
    advance = _Advance(progress, total=2 * files.size_bytes)
    config = ModelConfig(
        runtime=files.runtime,
        files=tuple(
            ListedFile(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256(advance))
            for file in files.files
        ),
        inputs=declaration.inputs,
        outputs=declaration.outputs,
        batching=declaration.batching,
        resources=declaration.resources,
    )
    identity = pyrage.x25519.Identity.generate()
    with _whole_file(destination) as file:
        reader, writer = _ChunkReader(_archive(files, config, advance)), _HashingWriter(file)
        _encrypt(reader, writer, identity.to_public())
    return EncryptedPayload(identity=str(identity), sha256=writer.hexdigest(), size_bytes=writer.size_bytes)


def write_bundle(path: Path, manifest: Envelope, payload: Path) -> None:
    """Join a signed manifest and an encrypted payload into a bundle file.

    Args:
        path: Becomes the bundle, by rename; missing folders are made.
        manifest: The signed manifest; its payload is opaque here.
        payload: What `encrypt_payload` wrote.

    Raises:
        ConfigurationError: the payload cannot be read or is 8 GiB or larger, the manifest exceeds 4 MiB, or
            `path` cannot be written.
    """
    head = manifest.to_json()
    if len(head) > ENVELOPE_LIMIT_BYTES:
        raise ConfigurationError(f"manifest: expected at most {ENVELOPE_LIMIT_BYTES} bytes, got {len(head)}")
    with contextlib.suppress(OSError):  # the file itself will say what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    with _readable(payload) as content, _whole_file(path) as file:
        size_bytes = os.fstat(content.fileno()).st_size
        file.write(_member(MANIFEST_NAME, head))
        file.write(encode_header(Member(name=PAYLOAD_NAME, size_bytes=size_bytes)))
        copied = 0
        while chunk := content.read(READ_BYTES):
            copied += len(chunk)
            file.write(chunk)
        if copied != size_bytes:
            raise ConfigurationError(f"{payload}: changed while it was copied; pack the model again")
        file.write(bytes(padding_bytes(size_bytes)) + END)


def bundle_location(model: str, version: str) -> str:
    """Return where a model version lies within a store, with forward slashes."""
    return f"{model}/{version}.s3ml"


def _encrypt(reader: "_ChunkReader", writer: "_HashingWriter", recipient: pyrage.x25519.Recipient) -> None:
    """Run age, and raise what went wrong on either side: pyrage hides it, or even reports success."""
    try:
        pyrage.encrypt_io(reader, writer, [recipient])
    except pyrage.EncryptError as error:
        raise reader.failure or writer.failure or error from None
    if writer.failure is not None:
        raise writer.failure


def _archive(files: Source, config: ModelConfig, advance: "_Advance") -> Iterator[bytes]:
    """Produce the plaintext tar in pieces, and check that the files are still those that were listed."""
    yield _member(LISTING_NAME, encode_listing(config))
    for file, listed in zip(files.files, config.files, strict=True):
        yield encode_header(Member(name=file.name, size_bytes=file.size_bytes))
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
            yield chunk
            advance(len(chunk))
        if digest.hexdigest() != listed.sha256:
            raise changed(file)
        yield bytes(padding_bytes(file.size_bytes))
    yield END


def _member(name: str, content: bytes) -> bytes:
    """Return a whole small member: header, content, padding."""
    header = encode_header(Member(name=name, size_bytes=len(content)))
    return header + content + bytes(padding_bytes(len(content)))


class _Advance:
    """Adds pieces up for a progress callback."""

    __slots__ = ("_done", "_progress", "_total")

    def __init__(self, progress: Progress, *, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, piece_bytes: int) -> None:
        self._done += piece_bytes
        self._progress(self._done, self._total)


class _ChunkReader:
    """A file for pyrage to read from that remembers why reading failed: pyrage would hide it."""

    __slots__ = ("_chunks", "_rest", "failure")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")
        self.failure: BaseException | None = None

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, and none at the end."""
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except BaseException as error:  # Ctrl-C too
            self.failure = error
            raise
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


class _HashingWriter:
    """A file for pyrage to write to, which learns digest and size, and remembers why writing failed."""

    __slots__ = ("_digest", "_file", "failure", "size_bytes")

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self.size_bytes = file, hashlib.sha256(), 0
        self.failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        try:
            self._file.write(data)
        except BaseException as error:  # Ctrl-C too
            self.failure = error
            raise
        self._digest.update(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Leave flushing to whoever opened the file: pyrage would hide its failure."""

    def hexdigest(self) -> str:
        """Return the hexadecimal SHA-256 of everything written."""
        return self._digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[IO[bytes]]:
    """Open a payload for reading."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write beside `path` and rename at the end; whatever interrupts leaves nothing behind."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
