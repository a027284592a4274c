"""The newest log that this client verified: a later bundle must prove that it only appends to it.

Kept in memory, and in a file where the caller wants it to outlive the process. The file holds no secret, but
whoever can write it can make a client forget.

Source: docs/spec/trust-file.md, section "Log state".
"""

import threading
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import DIGEST_PATTERN
from s3ml.primitives.units import KIB

_Digest = Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    deployment: _Digest
    log_size: Annotated[int, msgspec.Meta(ge=1)]
    log_root: _Digest


class LogState:
    """Size and root of the newest verified log of one deployment.

    Args:
        deployment: The deployment's id.
        path: Where to keep it; nowhere when not given.

    Raises:
        ConfigurationError: the file is malformed, or speaks of another deployment.
    """

    def __init__(self, deployment: str, path: Path | None = None) -> None:
        self._deployment = deployment
        self._path = path
        self._lock = threading.Lock()
        self._known = self._read(path) if path is not None and path.exists() else None

    @property
    def known(self) -> tuple[int, bytes] | None:
        """Size and root, or None before the first verification."""
        return self._known

    def remember(self, size: int, root: bytes, *, since: tuple[int, bytes] | None) -> bool:
        """Keep a log that was proven to extend `since`.

        Returns:
            False when another log became known meanwhile: nothing shows that the two are one.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        with self._lock:
            if self._known == (size, root):
                return True
            if self._known != since:
                return False
            self._known = (size, root)
            if self._path is not None:
                document = _File(deployment=self._deployment, log_size=size, log_root=root.hex())
                write_atomically(self._path, msgspec.json.encode(document) + b"\n")
            return True

    def _read(self, path: Path) -> tuple[int, bytes]:
        data = read_limited(path, limit_bytes=KIB, what="log state")
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"log state {path}: {error}") from error
        if file.deployment != self._deployment:
            raise ConfigurationError(
                f"log state {path}: expected deployment {self._deployment}, got {file.deployment}: "
                "use one file for each deployment"
            )
        return file.log_size, bytes.fromhex(file.log_root)
