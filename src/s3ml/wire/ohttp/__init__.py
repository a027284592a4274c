"""Oblivious HTTP: a sealed request to the holder of a published key, and the way back for one response.

Source: RFC 9458.
"""

from s3ml.wire.errors import SealRejectedError, UnknownKeyError
from s3ml.wire.ohttp.configs import KeyConfig, encode_key_configs, parse_key_configs
from s3ml.wire.ohttp.exchange import (
    Channel,
    Opened,
    OpeningKey,
    RequestSealer,
    ResponseOpener,
    begin_request,
    decapsulate_request,
    encapsulate_request,
)
from s3ml.wire.ohttp.problems import DATE_PROBLEM, OHTTP_KEY_PROBLEM, PROBLEM_MEDIA_TYPE, Problem, is_problem

KEYS_MEDIA_TYPE = "application/ohttp-keys"
REQUEST_MEDIA_TYPE = "message/ohttp-req"
RESPONSE_MEDIA_TYPE = "message/ohttp-res"

__all__ = [
    "DATE_PROBLEM",
    "KEYS_MEDIA_TYPE",
    "OHTTP_KEY_PROBLEM",
    "PROBLEM_MEDIA_TYPE",
    "REQUEST_MEDIA_TYPE",
    "RESPONSE_MEDIA_TYPE",
    "Channel",
    "KeyConfig",
    "Opened",
    "OpeningKey",
    "Problem",
    "RequestSealer",
    "ResponseOpener",
    "SealRejectedError",
    "UnknownKeyError",
    "begin_request",
    "decapsulate_request",
    "encapsulate_request",
    "encode_key_configs",
    "is_problem",
    "parse_key_configs",
]
