"""A holder's side of recovery, offline: judge a request, and give a share to the TEE that made it alone.

Source: docs/spec/recovery.md, section "Holders".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation import AppraisalPolicy, VerifiedEnclave, parse_evidence, verify_evidence
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.documents import (
    Contribution,
    ContributionRequest,
    Outcome,
    OutcomeReply,
    RecoveryRequest,
    RecoveryRequestReply,
    Share,
)
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.escrow.binding import contribution_info, outcome_binding, request_binding, request_id
from s3ml.keyservice.escrow.shares import (
    ReadSet,
    check_shares,
    piece_of,
    read_share_set,
    verify_share_set,
)
from s3ml.keyservice.escrow.splitting import combine
from s3ml.keyservice.fields import REPLY_LIMIT_BYTES, REQUEST_LIMIT_BYTES
from s3ml.keyservice.following import follow
from s3ml.keyservice.genesis import identify_genesis
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.wire.hpke import HYBRID_AES256, seal_once

# The owners' chain may be long; it is read on people's machines alone.
REQUEST_FILE_LIMIT_BYTES = REPLY_LIMIT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRequest:
    """A request that an accepted TEE made; made by `verify_request` alone.

    Args:
        request: What it asks, every field bound by evidence.
        request_id: Its id.
        share_set: The set that it asks shares of.
        policy: What was accepted as a key service.
        enclave: What asks.
    """

    request: RecoveryRequest
    request_id: str
    share_set: ReadSet
    policy: AppraisalPolicy
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

    That the deployment made the share set was verified by the TEE; see `follow_owners` for more. No
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
        request=request,
        request_id=request_id(report_data),
        share_set=share_set,
        policy=policy,
        enclave=enclave,
    )


def follow_owners(reply: RecoveryRequestReply, *, deployment: str) -> Authority | None:
    """Return what governs the deployment, as the chain that came with a request proves it.

    1. The chain begins at the pinned genesis, and owners signed each link.
    2. The replica reads a log with the key service's policy to which the chain leads.
    3. The deployment's statement key signed the share set.

    That no newer link was kept back is not proven here: offline, nobody can.

    Returns:
        Nothing where no chain came with the request.

    Raises:
        ConfigurationError: a link is malformed or missing.
        UntrustedPeerError: a check failed.
    """
    if reply.authority is None:
        return None
    genesis = identify_genesis(reply.authority.genesis)
    if genesis.deployment != deployment:  # (1)
        wrong = mismatch("deployment", expected=deployment, got=genesis.deployment)
        raise RefusedError("owners' chain", [wrong])
    authority = follow(genesis, reply.authority.entries)
    expected = authority.policy_digest.hex()
    if reply.request.policy_sha256 != expected:  # (2)
        wrong = mismatch("key-service policy", expected=expected, got=reply.request.policy_sha256)
        raise RefusedError("recovery request", [wrong])
    verify_share_set(  # (3)
        reply.shares.share_set, deployment=deployment, statement_key=authority.statement_key
    )
    return authority


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


def verify_outcome(reply: OutcomeReply, verified: VerifiedRequest, *, now: datetime) -> Outcome:
    """Return what a rehearsal showed, as the TEE that asked for it says.

    1. Evidence satisfies the policy that the request did, and binds the outcome's bytes and the request.
    2. The outcome is about the request.

    Args:
        reply: From an untrusted peer.
        verified: The request, verified.
        now: Aware UTC.

    Raises:
        EvidenceMalformedError: evidence that cannot be read.
        EvidenceRejectedError: (1) fails; all mismatches are listed.
        DocumentMalformedError: it is no outcome.
        RefusedError: (2) fails.
    """
    binding = outcome_binding(verified.request, outcome=reply.outcome, attester_nonce=reply.attester_nonce)
    verify_evidence(  # (1)
        parse_evidence(reply.evidence), verified.policy, report_data=binding.report_data(), now=now
    )
    outcome = parse_document(reply.outcome, Outcome, what="outcome", limit_bytes=REQUEST_LIMIT_BYTES)
    if outcome.request != verified.request_id:  # (2)
        wrong = mismatch("request", expected=verified.request_id, got=outcome.request)
        raise RefusedError("outcome", [wrong])
    return outcome


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
