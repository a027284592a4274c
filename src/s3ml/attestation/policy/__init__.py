"""Policies: which TEEs and code a caller accepts, how policies compare, and what they mean to people."""

from s3ml.attestation.policy.alternative import (
    DEFAULT_MAX_COLLATERAL_AGE_S,
    DEFAULT_MAX_CRL_AGE_S,
    Alternative,
    AppraisalPolicy,
    RuntimeEvent,
    SnpTcb,
    TcbStatus,
)
from s3ml.attestation.policy.document import (
    POLICY_LIMIT_BYTES,
    encode_policy,
    parse_policy,
    policy_from_table,
    policy_to_table,
)
from s3ml.attestation.policy.order import is_narrower_or_equal, widenings

__all__ = [
    "DEFAULT_MAX_COLLATERAL_AGE_S",
    "DEFAULT_MAX_CRL_AGE_S",
    "POLICY_LIMIT_BYTES",
    "Alternative",
    "AppraisalPolicy",
    "RuntimeEvent",
    "SnpTcb",
    "TcbStatus",
    "encode_policy",
    "is_narrower_or_equal",
    "parse_policy",
    "policy_from_table",
    "policy_to_table",
    "widenings",
]
