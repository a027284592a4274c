"""The way to a witness over HTTP, blocking; its cosignatures are verified by whoever counts them.

One deadline holds for the whole exchange, however slowly a witness sends; only the resolution of its name is
outside of it. Replies are read up to a limit. No redirect is followed.

Source: C2SP tlog-witness v1.0.0, section "add-checkpoint".
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

import urllib3

from s3ml.primitives.deadline import POOL_CLASSES, Deadline
from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError
from s3ml.primitives.units import KIB, MIB
from s3ml.transparency.checkpoint import parse_size
from s3ml.transparency.note import NoteRejectedError, NoteSignature
from s3ml.transparency.witness.request import encode_request

DEFAULT_TIMEOUT_S = 5.0
REPLY_LIMIT_BYTES = 64 * KIB
STATUS_LIMIT_BYTES = 8 * MIB
_CONNECTIONS = 4
_CHUNK_BYTES = 16 * KIB
_DETAIL_LIMIT = 300
_OK = 200
_CONFLICT = 409
_REFUSALS = frozenset({400, 403, 404, 413, 422})


class WitnessConflictError(UnavailableError):
    """The witness knows another size than the proof begins at: prove anew from there, at once.

    Args:
        message: For a person.
        known_size: The size of the newest head that the witness cosigned, as it says. One that is larger than
            the caller's log means that the caller's log is not the newest, or that the witness lies.
    """

    def __init__(self, message: str, *, known_size: int) -> None:
        super().__init__(message, retry_after_s=0.0)
        self.known_size = known_size


class WitnessRefusedError(UntrustedPeerError):
    """The witness will not cosign this: it knows another log, other keys, or no such log.

    The same request is refused again, so this is no matter of waiting; a person finds out who is wrong.
    422 means that the witness has cosigned a log that this one does not append to: a fork.

    Args:
        message: What it says.
        status: The HTTP status: 400, 403, 404, 413 or 422.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class WitnessUnavailableError(UnavailableError):
    """The witness does not answer in time, or as no witness does."""


class WitnessClient:
    """Ask the witness at a URL; safe to use from several threads.

    Args:
        url: Its submission prefix, up to before ``/add-checkpoint``.
        timeout_s: For a whole exchange, in seconds.

    Raises:
        ConfigurationError: `url` is no HTTP address.
    """

    def __init__(self, url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        _check_address(url)
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(total=timeout_s), num_pools=1, maxsize=_CONNECTIONS
        )
        self._pool.pool_classes_by_scheme = POOL_CLASSES

    def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: str) -> tuple[str, ...]:
        """Ask for a cosignature on the checkpoint `note`.

        Args:
            old_size: The size that the witness knows; 0 where it is unknown.
            proof: That `note` appends to the log of that size; empty from 0, and of equal sizes.
            note: The checkpoint as a note that the log signed.

        Returns:
            Signature lines without line feeds, at least one, not verified: see `with_cosignatures`.

        Raises:
            WitnessConflictError: the witness knows another size.
            WitnessRefusedError: it will not cosign this.
            WitnessUnavailableError: anything else; nothing is known of what it did.
            ConfigurationError: the request would exceed what a witness accepts.
        """
        body = encode_request(old_size=old_size, proof=proof, note=note)
        status, data = self._exchange("POST", "/add-checkpoint", body, limit_bytes=REPLY_LIMIT_BYTES)
        if status == _OK:
            return self._lines(data)
        if status == _CONFLICT:
            raise WitnessConflictError(
                f"witness {self.url}: knows another size than {old_size}", known_size=self._size(data)
            )
        detail = " ".join(data.decode("utf-8", errors="replace").split())[:_DETAIL_LIMIT]
        message = f"witness {self.url}: answered {status}: {detail}"
        if status in _REFUSALS:
            raise WitnessRefusedError(message, status=status)
        raise WitnessUnavailableError(message)

    def status(self) -> bytes:
        """Return what a witness of ours says of itself, as JSON.

        Raises:
            WitnessUnavailableError: it does not answer, or is another's witness.
        """
        status, data = self._exchange("GET", "/status", None, limit_bytes=STATUS_LIMIT_BYTES)
        if status != _OK:
            raise WitnessUnavailableError(f"witness {self.url}: answered {status}")
        return data

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _exchange(self, method: str, path: str, body: bytes | None, *, limit_bytes: int) -> tuple[int, bytes]:
        with Deadline(self._timeout_s) as deadline:
            try:
                reply = self._pool.request(
                    method, self.url + path, body=body, preload_content=False, redirect=False
                )
                try:
                    status, data = int(reply.status), self._read(reply, limit_bytes)
                finally:
                    reply.close()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                what = "not in time" if deadline.is_over else type(error).__name__
                raise WitnessUnavailableError(f"witness {self.url}: does not answer: {what}") from error
            if deadline.is_over:  # what was read may have been cut off
                raise WitnessUnavailableError(f"witness {self.url}: does not answer: not in time")
        return status, data

    def _read(self, reply: urllib3.BaseHTTPResponse, limit_bytes: int) -> bytes:
        data = bytearray()
        while chunk := reply.read(_CHUNK_BYTES):
            data += chunk
            if len(data) > limit_bytes:
                raise WitnessUnavailableError(
                    f"witness {self.url}: expected a reply of at most {limit_bytes} bytes"
                )
        return bytes(data)

    def _lines(self, data: bytes) -> tuple[str, ...]:
        try:
            text = data.decode("utf-8")
            if text.endswith("\n"):
                return tuple(str(NoteSignature.parse(line)) for line in text[:-1].split("\n"))
        except (UnicodeDecodeError, NoteRejectedError) as error:
            raise WitnessUnavailableError(f"witness {self.url}: expected signature lines: {error}") from error
        raise WitnessUnavailableError(f"witness {self.url}: expected signature lines")

    def _size(self, data: bytes) -> int:
        try:
            return parse_size(data.decode("utf-8").removesuffix("\n"), what="known size")
        except (UnicodeDecodeError, NoteRejectedError) as error:
            raise WitnessUnavailableError(f"witness {self.url}: {error}") from error


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"witness address: {error}, got {url[:200]!r}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ConfigurationError(
            f"witness address: expected http:// or https:// and a host, got {url[:200]!r}"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(f"witness address: expected neither ? nor #, got {url[:200]!r}")
