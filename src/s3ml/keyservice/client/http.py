"""The way to a key service over HTTP, blocking; it is trusted with nothing.

Replies are read up to a limit and parsed into exact types; nothing in them is verified here.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
import urllib3

from s3ml.keyservice.documents import (
    ChallengeReply,
    ChallengeRequest,
    ContributionRequest,
    ControlMessage,
    ControlReply,
    DeploymentReply,
    EntriesReply,
    ErrorReply,
    GenesisReply,
    GenesisRequest,
    Mismatch,
    RecoveryAsk,
    RecoveryRequestReply,
    RecoverySharesReply,
    RecoveryStatusReply,
    ReleaseReply,
    ReleaseRequest,
    RequestStatus,
    ResourcesReply,
    TrustBundleRequest,
)
from s3ml.keyservice.fields import REPLY_LIMIT_BYTES
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.primitives.errors import UnavailableError, UntrustedPeerError
from s3ml.primitives.units import KIB

DEFAULT_TIMEOUT_S = 30.0
RETRY_AFTER_LIMIT_S = 3600.0
_CHUNK_BYTES = 64 * KIB
_OK = 200
_TOO_MANY = 429
_SERVER_ERROR = 500

_T = TypeVar("_T")


class KeyServiceRefusedError(UntrustedPeerError):
    """The key service refuses: another try with the same request is refused again.

    Args:
        message: What it says.
        status: The HTTP status.
        mismatches: The checks that failed, as it lists them.
    """

    def __init__(self, message: str, *, status: int, mismatches: tuple[Mismatch, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.mismatches = mismatches


class KeyServiceUnavailableError(UnavailableError):
    """The key service does not answer, or asks to come again later."""


class KeyServiceClient:
    """Talk to the key service at a URL; safe to use from several threads.

    Args:
        url: Up to before ``/v1``, such as ``http://127.0.0.1:8080/keyservice``.
        timeout_s: For a whole exchange, in seconds.
    """

    def __init__(self, url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(total=timeout_s), num_pools=1, maxsize=4
        )

    def deployment(self) -> DeploymentReply:
        """Ask where the key service stands."""
        return self._get("/v1/deployment", DeploymentReply)

    def resources(self) -> ResourcesReply:
        """List the governed resources."""
        return self._get("/v1/resources", ResourcesReply)

    def entries(self, start: int, end: int) -> EntriesReply:
        """Read log entries from index `start` up to before `end`; possibly fewer."""
        return self._get(f"/v1/entries?start={start}&end={end}", EntriesReply)

    def checkpoint(self) -> str:
        """Read the newest checkpoint, a signed note."""
        return self._exchange("GET", "/v1/checkpoint", None).decode(errors="replace")

    def genesis(self, request: GenesisRequest) -> GenesisReply:
        """Begin a deployment."""
        return self._post("/v1/genesis", request, GenesisReply)

    def control(self, message: ControlMessage) -> ControlReply:
        """Change a resource."""
        return self._post("/v1/control", message, ControlReply)

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Ask for a challenge."""
        return self._post("/v1/challenge", request, ChallengeReply)

    def release(self, request: ReleaseRequest) -> ReleaseReply:
        """Ask for a release."""
        return self._post("/v1/release", request, ReleaseReply)

    def trust_bundle(self, request: TrustBundleRequest) -> bytes:
        """Ask for a trust bundle, for `verify_trust_bundle`."""
        return self._exchange("POST", "/v1/trust-bundle", encode_document(request))

    def recovery_shares(self) -> RecoverySharesReply:
        """Read the newest shares of the wrapping key, each encrypted to its holder."""
        return self._get("/v1/recovery/shares", RecoverySharesReply)

    def recovery_request(self, ask: RecoveryAsk) -> RecoveryRequestReply:
        """Ask a replica to ask for shares."""
        return self._post("/v1/recovery/request", ask, RecoveryRequestReply)

    def recovery_contribution(self, contribution: ContributionRequest) -> RequestStatus:
        """Hand sealed shares to the replica that asked for them."""
        return self._post("/v1/recovery/contribution", contribution, RequestStatus)

    def recovery_status(self) -> RecoveryStatusReply:
        """Ask a replica how far its requests for shares are."""
        return self._get("/v1/recovery/status", RecoveryStatusReply)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _get(self, path: str, kind: type[_T]) -> _T:
        return self._parse(path, kind, self._exchange("GET", path, None))

    def _post(self, path: str, document: msgspec.Struct, kind: type[_T]) -> _T:
        return self._parse(path, kind, self._exchange("POST", path, encode_document(document)))

    def _parse(self, path: str, kind: type[_T], data: bytes) -> _T:
        return parse_document(data, kind, what=f"key service {path}", limit_bytes=REPLY_LIMIT_BYTES)

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        """Send one request and return the body of a reply with status 200.

        Raises:
            KeyServiceRefusedError: a status of 400 to 499, except 429.
            KeyServiceUnavailableError: no answer, or a status that asks to come again.
        """
        deadline_s = time.monotonic() + self._timeout_s
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            reply = self._pool.request(
                method, self._url + path, body=body, headers=headers, preload_content=False, redirect=False
            )
            try:
                data = _read(reply.read, deadline_s)
                status, retry_after = int(reply.status), reply.headers.get("retry-after")
            finally:
                reply.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KeyServiceUnavailableError(
                f"key service {self._url}: does not answer: {type(error).__name__}"
            ) from error
        if status == _OK:
            return data
        line, mismatches = _told(data)
        message = f"key service: {line or f'answered {status}'}"
        if status >= _SERVER_ERROR or status == _TOO_MANY:
            raise KeyServiceUnavailableError(message, retry_after_s=_seconds(retry_after))
        raise KeyServiceRefusedError(message, status=status, mismatches=mismatches)


def _read(read: Callable[[int], bytes], deadline_s: float) -> bytes:
    """Read a whole reply, unless it is larger or slower than any reply may be."""
    data = bytearray()
    while chunk := read(_CHUNK_BYTES):
        data += chunk
        if time.monotonic() > deadline_s:
            raise KeyServiceUnavailableError("key service: its reply takes too long")
        if len(data) > REPLY_LIMIT_BYTES:
            raise UntrustedPeerError(f"key service: expected a reply of at most {REPLY_LIMIT_BYTES} bytes")
    return bytes(data)


def _told(data: bytes) -> tuple[str, tuple[Mismatch, ...]]:
    """Return what an error reply says; nothing where it is none of the key service's."""
    try:
        reply = msgspec.json.decode(data, type=ErrorReply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ()
    return reply.error[:2000], reply.mismatches


def _seconds(text: str | None) -> float | None:
    """Return the seconds of a Retry-After field, where it names a sensible number of them."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), RETRY_AFTER_LIMIT_S)
