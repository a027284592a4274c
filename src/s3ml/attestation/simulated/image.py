"""Images of enclave processes, measured as they are copied.

An image is a folder with an interpreter, its standard library, a role's distributions, the package and the
script that starts them. Its measurement covers every byte of it and the launch configuration. `measure` reads
the sources; `build` copies them and hashes the bytes that it wrote: both use one manifest, so that they agree
whenever the copy equals the source, and only then.

Source: docs/spec/simulated-platform.md.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from s3ml.attestation.simulated.installed import PYTHON, SCRIPT, installed_files, preloaded
from s3ml.attestation.simulated.launch import ROLES, Role
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB

MEASUREMENT_TAG = "S3ML simulated measurement v1"

_CHUNK_BYTES = MIB
_ROOT_MARK = "{image}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfiguration:
    """How an image is started; ``{image}`` stands for its folder.

    Args:
        argv: The program and its arguments.
        environment: What the process gets besides its settings.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """Return the bytes that are measured: one line per argument and variable."""
        lines = [f"argv {argument}\n" for argument in self.argv]
        lines += [f"env {name}={value}\n" for name, value in self.environment]
        return "".join(lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the manifest says of one file: its SHA-256 in hexadecimal and its size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """What an image is made of.

    Args:
        files: By the path in the image (relative, POSIX): the file to copy, or the bytes to write.
        launch: How the image is started.

    Raises:
        ConfigurationError: A path is absolute, leaves the image, or holds a control character.
    """

    files: Mapping[str, Path | bytes]
    launch: LaunchConfiguration

    def __post_init__(self) -> None:
        for path in self.files:
            if not path.isprintable() or any(part in {"", ".", ".."} for part in path.split("/")):
                raise ConfigurationError(
                    f"image: expected a relative path of printable characters, got {path!r}"
                )

    @classmethod
    def installed(cls, role: Role, package: Path | None = None) -> "ImageSource":
        """Return the image of `role` that the running environment makes.

        Args:
            role: ``key-service`` or ``model-server``.
            package: A folder that replaces the package ``s3ml``: how a changed build is launched.

        Raises:
            ConfigurationError: An unknown role, a missing distribution, or no package at `package`.
        """
        if role not in ROLES:
            raise ConfigurationError(f"role: expected one of {', '.join(ROLES)}, got {role[:80]!r}")
        files = installed_files(role, package)
        library = preloaded(files)
        preload = () if library is None else (("LD_PRELOAD", f"{_ROOT_MARK}/{library}"),)
        argv = (f"{_ROOT_MARK}/{PYTHON}", "-I", "-S", "-B", f"{_ROOT_MARK}/{SCRIPT}")
        return cls(files=files, launch=LaunchConfiguration(argv=argv, environment=preload))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image: read-only files under `root`, and what was measured of them."""

    root: Path
    measurement: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    files: Mapping[str, Measured] = field(repr=False)


class Digests:
    """Digests of source files, remembered for as long as a file's status does not change.

    A file that changed unseen makes an *old* copy be used again, under the old copy's own measurement: what
    runs is still what was measured.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], Measured]] = {}

    def of(self, origin: Path | bytes) -> Measured:
        """Return the digest and the size of a source.

        Raises:
            ConfigurationError: It cannot be read.
        """
        if isinstance(origin, bytes):
            return Measured(sha256=hashlib.sha256(origin).hexdigest(), size_bytes=len(origin))
        try:
            status = origin.stat()
            state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known = self._known.get(origin)
            if known is not None and known[0] == state:
                return known[1]
            measured = _transfer(origin, lambda _: None)
        except OSError as error:
            raise ConfigurationError(f"image: {origin}: cannot be read: {error.strerror}") from error
        self._known[origin] = (state, measured)
        return measured


def measurement_of(files: Mapping[str, Measured], launch: LaunchConfiguration) -> str:
    """Return the measurement (64 hexadecimal digits) of a manifest and a launch configuration."""
    lines = [
        f"{measured.sha256}  {measured.size_bytes}  {path}\n".encode()
        for path, measured in sorted(files.items(), key=lambda item: item[0].encode())
    ]
    return tagged_sha256(MEASUREMENT_TAG, b"".join(lines), launch.encode()).hex()


def measure(source: ImageSource, *, digests: Digests | None = None) -> str:
    """Return the measurement that `build` would arrive at, without copying.

    Args:
        source: What to read.
        digests: Remembers unchanged files from one call to the next.

    Raises:
        ConfigurationError: A file is missing or cannot be read.
    """
    digests = Digests() if digests is None else digests
    files = {path: digests.of(origin) for path, origin in source.files.items()}
    return measurement_of(files, source.launch)


def build(
    source: ImageSource, destination: Path, *, reuse: Iterable[Image] = (), digests: Digests | None = None
) -> Image:
    """Copy `source` to `destination`, read-only, and measure the copy.

    Args:
        source: What to copy.
        destination: A folder that does not exist yet; its parent does.
        reuse: Earlier images on the same file system. Where one holds an equal file at the same path, the new
            image shares it by a hard link.
        digests: Remembers unchanged files from one call to the next.

    Returns:
        The image, whose measurement is that of the bytes that were written.

    Raises:
        ConfigurationError: A file cannot be read, or `destination` cannot be written.
    """
    digests, earlier = Digests() if digests is None else digests, tuple(reuse)
    files: dict[str, Measured] = {}
    try:
        destination.mkdir(mode=0o700)
        for path, origin in sorted(source.files.items()):
            target = destination / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shared = _share(path, digests.of(origin), target, earlier) if earlier else None
            files[path] = _copy(origin, target) if shared is None else shared
    except OSError as error:
        raise ConfigurationError(f"image {destination}: cannot be built: {error}") from error
    root = str(destination)
    return Image(
        root=destination,
        measurement=measurement_of(files, source.launch),
        argv=tuple(argument.replace(_ROOT_MARK, root) for argument in source.launch.argv),
        environment=tuple(
            (name, value.replace(_ROOT_MARK, root)) for name, value in source.launch.environment
        ),
        files=files,
    )


def _share(path: str, measured: Measured, target: Path, earlier: Iterable[Image]) -> Measured | None:
    """Link `target` to the copy at `path` of an image that measured the same bytes there."""
    for image in earlier:
        if image.files.get(path) == measured:
            with contextlib.suppress(OSError):
                target.hardlink_to(image.root / path)
                return measured
    return None


def _copy(origin: Path | bytes, target: Path) -> Measured:
    """Write `target` and return the digest of the bytes that were written."""
    mode = 0o555 if target.parent.name == "bin" else 0o444
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as copy:
        return _transfer(origin, copy.write)


def _transfer(origin: Path | bytes, write: Callable[[bytes], object]) -> Measured:
    """Pass `origin` to `write` piece by piece, and return the digest of what was passed."""
    digest, size_bytes = hashlib.sha256(), 0
    if isinstance(origin, bytes):
        write(origin)
        digest.update(origin)
        size_bytes = len(origin)
    else:
        with _open_regular(origin) as file:
            while piece := file.read(_CHUNK_BYTES):
                write(piece)
                digest.update(piece)
                size_bytes += len(piece)
    return Measured(sha256=digest.hexdigest(), size_bytes=size_bytes)


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file, without waiting for the writer of a named pipe."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "expected a regular file", str(path))
    return file
