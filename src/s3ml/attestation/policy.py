"""Appraisal policies: which enclaves a caller accepts, strictly typed.

A policy is a list of alternatives, and one that holds is enough. An alternative names its TEE, the code
(measurements, or a signer with a product and its least version) and what is tolerated of the platform.
Unknown fields, empty lists and kinds of TEE without a verifier reject. The digest of a policy is always over
the bytes that were delivered, never over their re-serialisation.

Source: docs/spec/policy.md.
"""

import base64
import json
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from s3ml.attestation.evidence import Tee
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import DIGEST_PATTERN
from s3ml.primitives.units import DAY_S, KIB

POLICY_LIMIT_BYTES = 64 * KIB
VERIFIABLE_TEES = (Tee.SGX, Tee.SIMULATED)
DEFAULT_MAX_COLLATERAL_AGE_S = 30 * DAY_S  # Intel renews collateral within 30 days

TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
]
Digest = Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]
Unsigned16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Unsigned32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
Advisory = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9][A-Z0-9-]{0,63}\Z")]
Root = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4 * KIB)]


class Alternative(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of enclave that is accepted.

    Args:
        tee: A TEE that this version verifies: ``sgx`` or ``simulated``.
        root: The simulation root, DER (base64 in text); for ``simulated`` alone, and required there.
        measurements: The digests of the accepted code (MRENCLAVE).
        signer: Instead of `measurements`: the digest of the signer's key (MRSIGNER).
        product_id: With `signer`: the signer's product.
        min_svn: With `signer`: the least security version of that product.
        tcb_statuses: The TCB statuses that are tolerated.
        advisories: The open security advisories that are tolerated, by their ids.
        min_tcb_evaluation_data_number: The floor for Intel's numbering of its TCB recoveries.
        max_collateral_age_s: The greatest age of the collateral, in seconds, up to ten years.
        min_qe_svn: The least security version of the quoting enclave.
        min_pce_svn: The least security version of the provisioning certification enclave.

    Raises:
        ConfigurationError: the fields contradict each other.
    """

    tee: Tee
    root: Root | None = None
    measurements: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=256)] | None = None
    signer: Digest | None = None
    product_id: Unsigned16 | None = None
    min_svn: Unsigned16 | None = None
    tcb_statuses: Annotated[tuple[TcbStatus, ...], msgspec.Meta(min_length=1, max_length=6)] = ("UpToDate",)
    advisories: Annotated[tuple[Advisory, ...], msgspec.Meta(max_length=256)] = ()
    min_tcb_evaluation_data_number: Unsigned32 = 0
    max_collateral_age_s: Annotated[int, msgspec.Meta(ge=1, le=3650 * DAY_S)] = DEFAULT_MAX_COLLATERAL_AGE_S
    min_qe_svn: Unsigned16 = 0
    min_pce_svn: Unsigned16 = 0

    def __post_init__(self) -> None:
        if self.tee not in VERIFIABLE_TEES:
            raise ConfigurationError(
                f"policy: tee: expected one of {', '.join(VERIFIABLE_TEES)}, which this version verifies, "
                f"got {self.tee}"
            )
        _check_identity(self)
        _check_root(self)

    @property
    def is_simulated(self) -> bool:
        """Whether this alternative accepts a simulated TEE, which protects nothing."""
        return self.tee is Tee.SIMULATED


class AppraisalPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller accepts: any one of these alternatives."""

    version: Literal[1] = 1
    accept: Annotated[tuple[Alternative, ...], msgspec.Meta(min_length=1, max_length=32)]

    def __post_init__(self) -> None:
        if not self.accept:
            raise ConfigurationError("policy: accept: expected at least one alternative, got none")

    @property
    def is_simulated(self) -> bool:
        """Whether any alternative accepts a simulated TEE, which protects nothing."""
        return any(alternative.is_simulated for alternative in self.accept)


def parse_policy(data: bytes) -> AppraisalPolicy:
    """Parse a policy in TOML, or in JSON where the first character is a brace.

    Args:
        data: UTF-8, at most 64 KiB, possibly from an untrusted peer.

    Raises:
        ConfigurationError: too large, neither TOML nor JSON, an unknown or repeated field, a value out of
            bounds, an empty list, or a contradiction.
    """
    if len(data) > POLICY_LIMIT_BYTES:
        raise ConfigurationError(f"policy: expected at most {POLICY_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        text = data.decode()
        if text.lstrip().startswith("{"):
            table = json.loads(text, object_pairs_hook=_without_repeats)
        else:
            table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError, JSONDecodeError, TOMLDecodeError
        raise ConfigurationError(f"policy: expected TOML or JSON in UTF-8: {error}") from error
    return policy_from_table(table)


def policy_from_table(table: Mapping[str, Any]) -> AppraisalPolicy:
    """Read a policy that is part of another TOML or JSON document.

    Raises:
        ConfigurationError: an unknown field, a value out of bounds, an empty list, or a contradiction.
    """
    try:
        return msgspec.convert(table, AppraisalPolicy)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"policy: {error}") from error


def policy_to_table(policy: AppraisalPolicy) -> dict[str, Any]:
    """Return `policy` as tables, lists, text and numbers, for another TOML or JSON document."""
    table: dict[str, Any] = msgspec.to_builtins(policy)
    return table


def encode_policy(policy: AppraisalPolicy) -> bytes:
    """Return `policy` as TOML that people can read, edit and sign."""
    lines = [f"version = {policy.version}"]
    for alternative in policy.accept:
        lines += ["", "[[accept]]"]
        if alternative.is_simulated:
            lines.append("# SIMULATED: this platform protects nothing.")
        lines += [f"{name} = {_toml(value)}" for name, value in _fields(alternative)]
    return ("\n".join(lines) + "\n").encode()


def _fields(alternative: Alternative) -> list[tuple[str, object]]:
    """Every field that is set, defaults included, so that a person sees all that holds."""
    values = msgspec.structs.asdict(alternative)
    return [(name, value) for name, value in values.items() if value is not None]


def _toml(value: object) -> str:
    """Render what a policy holds: numbers, text without special characters, bytes, and lists of text."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return f'"{base64.b64encode(value).decode("ascii")}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"'


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a field is repeated")
    return table


def _check_identity(alternative: Alternative) -> None:
    signed = (alternative.signer, alternative.product_id, alternative.min_svn)
    if alternative.measurements is not None:
        is_consistent = all(value is None for value in signed)
    else:
        is_consistent = all(value is not None for value in signed)
    if not is_consistent:
        raise ConfigurationError(
            "policy: expected either measurements, or signer with product_id and min_svn, in each alternative"
        )
    if alternative.measurements == ():
        raise ConfigurationError("policy: measurements: expected at least one, got none")
    if alternative.tcb_statuses == ():
        raise ConfigurationError("policy: tcb_statuses: expected at least one, got none")


def _check_root(alternative: Alternative) -> None:
    if not alternative.is_simulated:
        if alternative.root is not None:
            raise ConfigurationError(
                f"policy: root: expected none with tee = {alternative.tee}: its root is the vendor's"
            )
        return
    if alternative.root is None:
        raise ConfigurationError("policy: root: expected the simulation root with tee = simulated, got none")
    try:
        key = x509.load_der_x509_certificate(alternative.root).public_key()
    except Exception as error:  # cryptography raises ValueError, TypeError and its own
        raise ConfigurationError("policy: root: expected a DER certificate") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError("policy: root: expected a certificate of a P-256 key")
