"""The client's end: seal a request, open its response.

Source: docs/spec/sealed-request.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire import bhttp
from s3ml.wire.errors import BinaryHTTPError, RequestTooLargeError
from s3ml.wire.hpke import Kem
from s3ml.wire.ohttp import DATE_PROBLEM, Channel, KeyConfig, ResponseOpener, begin_request, is_problem
from s3ml.wire.padding import padded_length
from s3ml.wire.sealed.dates import format_date, parse_date
from s3ml.wire.sealed.messages import (
    DEFAULT_LIMITS,
    InnerRequest,
    InnerResponse,
    SealLimits,
    to_bytes_fields,
    to_text_fields,
)
from s3ml.wire.sealed.proofs import AUTHORIZATION, RequestSigner

_PREFERENCE = (Kem.MLKEM768_X25519, Kem.X25519)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRequest:
    """A request on its way.

    Args:
        body: What to send, as ``message/ohttp-req``.
        opener: What opens the response to this request and to no other.
        limits: How large the response may be.
    """

    body: bytes
    opener: ResponseOpener
    limits: SealLimits

    def open_response(self, body: bytes) -> InnerResponse:
        """Open the response (``message/ohttp-res``, from an untrusted peer).

        Raises:
            SealRejectedError: whoever made it did not open the request.
            BinaryHTTPError: what is inside is malformed, or exceeds a limit.
        """
        if len(body) > self.limits.max_response_bytes:
            limit = self.limits.max_response_bytes
            raise BinaryHTTPError(f"sealed response: expected at most {limit} bytes, got {len(body)}")
        limits = bhttp.Limits(message_bytes=self.limits.max_response_bytes)
        response = bhttp.decode_response(self.opener.open(body), limits=limits)
        if response.trailers or response.informational:
            raise BinaryHTTPError("sealed response: expected neither trailers nor interim responses")
        return InnerResponse(
            status=response.status, fields=to_text_fields(response.fields), content=response.content
        )


def choose_config(configs: Iterable[KeyConfig]) -> KeyConfig:
    """Return the configuration to seal to: the hybrid before X25519, then in the order given.

    Raises:
        ConfigurationError: there is none.
    """
    ranked = sorted(configs, key=lambda config: _PREFERENCE.index(config.kem))
    if not ranked:
        raise ConfigurationError("key configurations: expected one of a KEM that is known here, got none")
    return ranked[0]


def seal_request(
    config: KeyConfig,
    request: InnerRequest,
    *,
    date: datetime,
    signer: RequestSigner | None = None,
    limits: SealLimits = DEFAULT_LIMITS,
) -> SealedRequest:
    """Pad and seal `request` to the holder of `config`.

    Args:
        config: From a verified trust bundle.
        request: What to ask.
        date: The present (aware), or the one that the server offered.
        signer: Adds the proof of a caller's key.
        limits: How large the sealed messages may be.

    Raises:
        ConfigurationError: the request is none that HTTP can carry, or has a field already that is added.
        RequestTooLargeError: sealed, it exceeds the limit.
    """
    if request.field("date") is not None:
        raise ConfigurationError("fields: expected no date, which sealing adds")
    sealer = begin_request(config)
    request = replace(request, fields=(("date", format_date(date)), *request.fields))
    if signer is not None:
        request = _signed(request, signer, sealer.channel)
    try:
        message = bhttp.Request(
            method=request.method.encode(),
            path=request.path.encode(),
            fields=to_bytes_fields(request.fields),
            content=request.content,
        )
    except BinaryHTTPError as error:
        raise ConfigurationError(f"request: {error}") from error
    plaintext = bhttp.encode_request(message, padded_length=padded_length)
    body, opener = sealer.seal(plaintext)
    if len(body) > limits.max_request_bytes:
        raise RequestTooLargeError(size_bytes=len(body), limit_bytes=limits.max_request_bytes)
    return SealedRequest(body=body, opener=opener, limits=limits)


def _signed(request: InnerRequest, signer: RequestSigner, channel: Channel) -> InnerRequest:
    if request.field(AUTHORIZATION) is not None:
        raise ConfigurationError("fields: expected no authorization, which the signer adds")
    try:
        authorization = signer.authorization(channel, request)
    except UnicodeEncodeError as error:
        raise ConfigurationError("request: expected ASCII") from error
    return replace(request, fields=(*request.fields, (AUTHORIZATION, authorization)))


def offered_date(response: InnerResponse) -> datetime | None:
    """Return the Date to seal with, once, when `response` says that the request's was not acceptable."""
    if not is_problem(DATE_PROBLEM, media_type=response.field("content-type"), content=response.content):
        return None
    return parse_date(response.field("date") or "")
