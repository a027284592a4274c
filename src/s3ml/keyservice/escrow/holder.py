"""A holder's side of recovery, offline: judge a request, and give a share to the TEE that made it alone.

Source: docs/spec/recovery.md, section "Holders".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation import AppraisalPolicy, VerifiedEnclave, parse_evidence, verify_evidence
from s3ml.keyservice.documents import (
    Contribution,
    ContributionRequest,
    RecoveryRequest,
    RecoveryRequestReply,
    Share,
    Verdict,
    VerdictReply,
)
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.escrow.binding import contribution_info, request_binding, request_id, verdict_binding
from s3ml.keyservice.escrow.shares import ReadSet, check_shares, piece_of, read_share_set
from s3ml.keyservice.escrow.splitting import combine
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.primitives.units import KIB
from s3ml.wire.hpke import HYBRID_AES256, seal_once

REQUEST_FILE_LIMIT_BYTES = 512 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRequest:
    """A request that an accepted TEE made; made by `verify_request` alone.

    Args:
        request: What it asks, every field bound by evidence.
        request_id: Its id.
        share_set: The set that it asks shares of.
        enclave: What asks.
    """

    request: RecoveryRequest
    request_id: str
    share_set: ReadSet
    enclave: VerifiedEnclave


def read_request(data: bytes) -> RecoveryRequestReply:
    """Read a request with its shares from a file or a reply; nothing in it is verified.

    Raises:
        DocumentMalformedError: it is none.
    """
    return parse_document(
        data, RecoveryRequestReply, what="recovery request", limit_bytes=REQUEST_FILE_LIMIT_BYTES
    )


def verify_request(
    reply: RecoveryRequestReply, *, deployment: str, policy: AppraisalPolicy, now: datetime
) -> VerifiedRequest:
    """Verify that a TEE with the key service's code asks for shares, and which.

    1. The request and its share set are of the pinned deployment.
    2. Evidence satisfies the key service's policy and binds every field of the request.
    3. The share set is the one that the request names.

    That the deployment made the share set was verified by the TEE; a forged one costs a holder nothing. No
    nonce of the holder is bound: only the TEE that holds the request's key can open what is contributed, and
    forgets it when it ends.

    Args:
        reply: From an untrusted peer.
        deployment: The pinned id.
        policy: The key service's, pinned or as the owners signed it.
        now: Aware UTC.

    Raises:
        ConfigurationError: the share set is malformed.
        EvidenceMalformedError: evidence that cannot be read.
        EvidenceRejectedError: (2) fails; all mismatches are listed.
        RefusedError: (1) or (3) fails.
    """
    request = reply.request
    share_set = read_share_set(reply.shares.share_set)
    claims = (  # (1)
        ("deployment", request.deployment),
        ("deployment of the share set", share_set.document.deployment),
    )
    failed = [mismatch(claim, expected=deployment, got=got) for claim, got in claims if got != deployment]
    if failed:
        raise RefusedError("recovery request", failed)
    report_data = request_binding(request).report_data()
    enclave = verify_evidence(
        parse_evidence(request.evidence), policy, report_data=report_data, now=now
    )  # (2)
    if share_set.sha256 != request.share_set:  # (3)
        wrong = mismatch("share set", expected=request.share_set, got=share_set.sha256)
        raise RefusedError("recovery request", [wrong])
    return VerifiedRequest(
        request=request, request_id=request_id(report_data), share_set=share_set, enclave=enclave
    )


def contribute(verified: VerifiedRequest, shares: Sequence[Share]) -> ContributionRequest:
    """Seal shares to the TEE that asked, for what it asked for.

    Args:
        verified: The request, verified.
        shares: Decrypted; at least one.

    Raises:
        RefusedError: a share is none of the set that was asked for; all mismatches are listed.
        ConfigurationError: the request's key is malformed.
    """
    check_shares(shares, verified.share_set)
    request = verified.request
    report_data = request_binding(request).report_data()
    sealed = seal_once(
        HYBRID_AES256,
        request.public_key,
        encode_document(Contribution(shares=tuple(shares))),
        info=contribution_info(request.purpose, report_data),
    )
    return ContributionRequest(request=verified.request_id, sealed=sealed)


def answer(verified: VerifiedRequest, shares: Sequence[Share]) -> ContributionRequest:
    """Make sure that `shares` give the wrapping key back, and seal just enough of them to the TEE that asked.

    Only for a machine that is trusted with k shares: one without a network.

    Raises:
        RefusedError: a share is none of the set; all mismatches are listed.
        ConfigurationError: they are too few, or one stands twice.
        PieceRejectedError: what they give is not what was split.
    """
    check_shares(shares, verified.share_set)
    share_set = verified.share_set
    wrapping_key = combine(
        share_set.outline, [piece_of(share) for share in shares], context=share_set.context
    )
    wrapping_key.wipe()
    return contribute(verified, shares[: share_set.outline.threshold])


def verify_verdict(
    reply: VerdictReply, verified: VerifiedRequest, *, policy: AppraisalPolicy, now: datetime
) -> Verdict:
    """Return what a rehearsal showed, as the TEE that asked for it says.

    1. Evidence satisfies the policy and binds the verdict's bytes and the request.
    2. The verdict is about the request.

    Args:
        reply: From an untrusted peer.
        verified: The request, verified.
        policy: The key service's.
        now: Aware UTC.

    Raises:
        EvidenceMalformedError: evidence that cannot be read.
        EvidenceRejectedError: (1) fails; all mismatches are listed.
        DocumentMalformedError: it is no verdict.
        RefusedError: (2) fails.
    """
    binding = verdict_binding(verified.request, verdict=reply.verdict, attester_nonce=reply.attester_nonce)
    verify_evidence(  # (1)
        parse_evidence(reply.evidence), policy, report_data=binding.report_data(), now=now
    )
    verdict = parse_document(reply.verdict, Verdict, what="verdict", limit_bytes=REQUEST_LIMIT_BYTES)
    if verdict.request != verified.request_id:  # (2)
        wrong = mismatch("request", expected=verified.request_id, got=verdict.request)
        raise RefusedError("verdict", [wrong])
    return verdict


def describe_request(verified: VerifiedRequest) -> tuple[str, ...]:
    """Say in plain words what is asked and by which code, a line each."""
    request, enclave, terms = verified.request, verified.enclave, verified.share_set.document
    if request.purpose == "rehearsal":
        asked = "REHEARSAL: it tries the shares, says what they open, and lets go of them."
    else:
        asked = "RECOVERY: given enough shares, it can act as the deployment's key service from then on."
    simulated = ", which is SIMULATED and protects nothing" if enclave.is_simulated else ""
    names = ", ".join(key.name for key in terms.recipients)
    return (
        asked,
        f"Asked by code of measurement {enclave.measurement}",
        f"on {enclave.tee}{simulated}: {enclave.platform}.",
        f"It reads a log of {request.log_size} entries with root {request.log_root.hex()}.",
        f"{terms.threshold} of {len(terms.recipients)} holders are enough: {names}.",
        *(f"Note: {note}" for note in enclave.notes),
    )
