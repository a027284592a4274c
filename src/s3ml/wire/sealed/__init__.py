"""The sealed request: an inference request as Binary HTTP, padded, in Oblivious HTTP.

What client and model server share. Between them nobody reads, changes or replays a request.

Source: docs/spec/sealed-request.md.
"""

from s3ml.wire.sealed.client import SealedRequest, choose_config, offered_date, seal_request
from s3ml.wire.sealed.errors import (
    AnsweredError,
    DateRejectedError,
    InnerRequestError,
    ReplayError,
    ReplayTableFullError,
)
from s3ml.wire.sealed.exchange import Exchange
from s3ml.wire.sealed.messages import DEFAULT_LIMITS, InnerRequest, InnerResponse, SealLimits
from s3ml.wire.sealed.proofs import AUTHORIZATION, SCHEME, Proof, RequestSigner, parse_proof, proof_message
from s3ml.wire.sealed.replay import Admission, ReplayGuard
from s3ml.wire.sealed.server import (
    KeyRing,
    OpenedRequest,
    RingKey,
    UnsealedRequest,
    open_request,
    unseal_request,
)

__all__ = [
    "AUTHORIZATION",
    "DEFAULT_LIMITS",
    "SCHEME",
    "Admission",
    "AnsweredError",
    "DateRejectedError",
    "Exchange",
    "InnerRequest",
    "InnerRequestError",
    "InnerResponse",
    "KeyRing",
    "OpenedRequest",
    "Proof",
    "ReplayError",
    "ReplayGuard",
    "ReplayTableFullError",
    "RequestSigner",
    "RingKey",
    "SealLimits",
    "SealedRequest",
    "UnsealedRequest",
    "choose_config",
    "offered_date",
    "open_request",
    "parse_proof",
    "proof_message",
    "seal_request",
    "unseal_request",
]
