"""The model server's end: open a request, and let through only what may be asked.

Source: docs/spec/sealed-request.md.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Self

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire import bhttp
from s3ml.wire.errors import BinaryHTTPError, RequestTooLargeError
from s3ml.wire.hpke import PrivateKey
from s3ml.wire.ohttp import KeyConfig, decapsulate_request
from s3ml.wire.oip import OIPError, Route, parse_path
from s3ml.wire.sealed.dates import parse_date
from s3ml.wire.sealed.errors import DateRejectedError, InnerRequestError, ReplayError, ReplayTableFullError
from s3ml.wire.sealed.exchange import Exchange
from s3ml.wire.sealed.messages import (
    DEFAULT_LIMITS,
    InnerRequest,
    InnerResponse,
    SealLimits,
    TextFields,
    to_text_fields,
)
from s3ml.wire.sealed.replay import Admission, ReplayGuard

ALLOWED_FIELDS = frozenset(
    {"accept", "authorization", "content-type", "date", "inference-header-content-length", "user-agent"}
)
#: The size of the sealed request has been limited by then.
_MESSAGE_LIMITS = bhttp.Limits(message_bytes=sys.maxsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingKey:
    """A private key, whose it is, and how it was published.

    Raises:
        ConfigurationError: the configuration is of another key.
    """

    config: KeyConfig
    private_key: PrivateKey
    service: str
    epoch: int

    def __post_init__(self) -> None:
        if self.private_key.public != self.config.public_key or self.private_key.kem is not self.config.kem:
            raise ConfigurationError(
                f"key {self.config.key_id}: expected the private half of its configuration"
            )


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that open requests, by key id; make it with `of`."""

    keys: Mapping[int, RingKey]

    @classmethod
    def of(cls, keys: Iterable[RingKey]) -> Self:
        """Gather `keys`.

        Raises:
            ConfigurationError: two of them have the same id.
        """
        by_id: dict[int, RingKey] = {}
        for key in keys:
            if by_id.setdefault(key.config.key_id, key) is not key:
                raise ConfigurationError(
                    f"key ring: expected each key id once, got {key.config.key_id} twice"
                )
        return cls(MappingProxyType(by_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRequest:
    """A request that was opened, is fresh, and may be asked.

    Args:
        request: What is asked.
        route: Its method and path, parsed.
        exchange: The way back.
    """

    request: InnerRequest
    route: Route
    exchange: Exchange

    @property
    def service(self) -> str:
        """The service that the request was sealed to; its key says so."""
        return self.exchange.service

    @property
    def epoch(self) -> int:
        """The epoch of that key."""
        return self.exchange.epoch

    def seal_response(self, response: InnerResponse) -> bytes:
        """Pad and seal the answer."""
        return self.exchange.seal_response(response)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsealedRequest:
    """A request that was opened and is well-formed; neither its time nor what it asks was looked at.

    Args:
        request: What is asked, with its `date` and `authorization`.
        exchange: The way back.
    """

    request: InnerRequest
    exchange: Exchange

    def admit(self, *, now: datetime, replays: ReplayGuard) -> OpenedRequest:
        """Check steps (4) and (5) of `open_request`.

        Raises:
            InnerRequestError: (5); answer sealed.
            DateRejectedError: (4); answer sealed.
            ReplayError: (4); answer sealed.
            ReplayTableFullError: (4); answer sealed.
        """
        _check_fresh(self.request, self.exchange, now=now, replays=replays)  # (4)
        return OpenedRequest(request=self.request, route=self.route(), exchange=self.exchange)  # (5)

    def route(self) -> Route:
        """Return what is asked: step (5) of `open_request`.

        Raises:
            InnerRequestError: no endpoint of the protocol; answer sealed.
        """
        try:
            return _route(self.request)
        except OIPError as error:
            raise InnerRequestError(str(error), exchange=self.exchange, status=error.status) from error


def open_request(
    ring: KeyRing,
    body: bytes | bytearray | memoryview,
    *,
    now: datetime,
    replays: ReplayGuard,
    limits: SealLimits = DEFAULT_LIMITS,
) -> OpenedRequest:
    """Open a sealed request and check it: `unseal_request`, and `admit` what it returns.

    1. Its size is within the limit.
    2. It opens under a key of the ring.
    3. Inside is a well-formed Binary HTTP request, without trailers; each of its fields is allowed, and
       stands once.
    4. Its Date lies in the window, and it was not opened before.
    5. Its method and path are of the Open Inference Protocol, and it has content only where that has.

    Args:
        ring: The keys.
        body: ``message/ohttp-req``, from an untrusted peer.
        now: Aware UTC time.
        replays: What was opened before, and the window.
        limits: How large the sealed messages may be.

    Raises:
        RequestTooLargeError: (1); answer 413, unsealed.
        UnknownKeyError: (2), the key is not in the ring; answer the ``ohttp-key`` problem, unsealed.
        SealRejectedError: (2); answer 400, unsealed.
        InnerRequestError: (3) or (5); answer sealed.
        DateRejectedError: (4); answer sealed.
        ReplayError: (4); answer sealed.
        ReplayTableFullError: (4); answer sealed.
    """
    return unseal_request(ring, body, limits=limits).admit(now=now, replays=replays)


def unseal_request(
    ring: KeyRing, body: bytes | bytearray | memoryview, *, limits: SealLimits = DEFAULT_LIMITS
) -> UnsealedRequest:
    """Do steps (1) to (3) of `open_request`, which raises the same.

    Between them and the others a server may ask who calls: a stranger's requests are then not remembered.
    """
    if len(body) > limits.max_request_bytes:  # (1)
        raise RequestTooLargeError(size_bytes=len(body), limit_bytes=limits.max_request_bytes)
    opened = decapsulate_request(ring.keys, body)  # (2)
    key = ring.keys[opened.key_id]
    exchange = Exchange(service=key.service, epoch=key.epoch, opened=opened)
    try:
        request = _decode(opened.plaintext)  # (3)
    except BinaryHTTPError as error:
        raise InnerRequestError(str(error), exchange=exchange) from error
    return UnsealedRequest(request=request, exchange=exchange)


def _decode(plaintext: bytes) -> InnerRequest:
    """Decode what is inside the seal; its authority, however the client calls the service, is not used."""
    message = bhttp.decode_request(plaintext, limits=_MESSAGE_LIMITS)
    if message.scheme != b"https" or message.trailers:
        raise BinaryHTTPError("sealed request: expected the scheme https, and no trailers")
    fields = to_text_fields(message.fields)
    _check_allowed(fields)
    return InnerRequest(
        method=message.method.decode("ascii"),
        path=message.path.decode("latin-1"),
        fields=fields,
        content=message.content,
    )


def _check_allowed(fields: TextFields) -> None:
    for name, _ in fields:
        if name not in ALLOWED_FIELDS:
            allowed = ", ".join(sorted(ALLOWED_FIELDS))
            raise BinaryHTTPError(f"fields: expected only {allowed}; got {name[:40]}")


def _route(request: InnerRequest) -> Route:
    route = parse_path(request.method, request.path)
    if request.method == "GET" and len(request.content):
        raise OIPError("content: expected none with GET")
    return route


def _check_fresh(request: InnerRequest, exchange: Exchange, *, now: datetime, replays: ReplayGuard) -> None:
    date = parse_date(request.field("date") or "")
    if date is None:
        raise DateRejectedError(exchange=exchange, now=replays.latest(now))
    admission = replays.admit(exchange.opened.enc, date=date, now=now)
    if admission is Admission.DATE_OUTSIDE:
        raise DateRejectedError(exchange=exchange, now=replays.latest(now))
    if admission is Admission.REPLAYED:
        raise ReplayError(exchange=exchange)
    if admission is Admission.FULL:
        raise ReplayTableFullError(exchange=exchange)
