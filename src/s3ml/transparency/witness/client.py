"""The way to a witness over HTTP, blocking; its cosignatures are verified by whoever counts them.

One deadline holds for the whole exchange, however slowly a witness sends; only the resolution of its name is
outside of it. Replies are read up to a limit. No redirect is followed.

Source: C2SP tlog-witness v1.0.0, section "add-checkpoint".
"""

from collections.abc import Sequence

import urllib3

from s3ml.primitives.errors import UnavailableError, UntrustedPeerError
from s3ml.primitives.units import KIB
from s3ml.transparency.checkpoint import parse_size
from s3ml.transparency.note import NoteRejectedError, NoteSignature
from s3ml.transparency.witness.deadline import DeadlinePool
from s3ml.transparency.witness.request import encode_request

DEFAULT_TIMEOUT_S = 5.0
REPLY_LIMIT_BYTES = 64 * KIB
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
        self._pool = DeadlinePool(self.url, connections=_CONNECTIONS)

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
        status, data = self._exchange(body)
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

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        try:
            with self._pool.request("POST", "/add-checkpoint", body=body, timeout_s=self._timeout_s) as reply:
                data = bytearray()
                while chunk := reply.read(_CHUNK_BYTES):
                    data += chunk
                    if len(data) > REPLY_LIMIT_BYTES:
                        raise WitnessUnavailableError(
                            f"witness {self.url}: expected a reply of at most {REPLY_LIMIT_BYTES} bytes"
                        )
                return int(reply.status), bytes(data)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise WitnessUnavailableError(
                f"witness {self.url}: does not answer: {type(error).__name__}"
            ) from error

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
