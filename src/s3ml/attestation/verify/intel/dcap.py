"""Quotes under a given root: dcap-qvl's proof, and every rule that it leaves to its callers.

dcap-qvl proves signatures, chains, revocation, the quoting enclave's identity and the TCB level. It holds
the GIL for about half a millisecond, and reports its first failure, as text; here the text names a mismatch,
and never decides, and the other signatures are then checked one by one. What it is given is written afresh
from what was read, so that a verdict follows from that alone, and can be remembered by it.

Source: Intel DCAP; the package dcap-qvl.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from dcap_qvl import QuoteCollateralV3, QuotePolicy, QuoteVerifier

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Evidence
from s3ml.attestation.policy import TcbStatus
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.certificates import (
    ROLES_PCK,
    ROLES_PCK_CA,
    Certificate,
    ChainReader,
    RootOfTrust,
    check_chain,
    read_pem,
)
from s3ml.attestation.verify.claims import Claims, IntelTcb
from s3ml.attestation.verify.intel.canonical import (
    canonical_collateral,
    canonical_quote,
    identify_certified_key,
    identify_platform,
    identify_quote,
    parse_issuers,
)
from s3ml.attestation.verify.intel.collateral import CollateralFacts, read_collateral
from s3ml.attestation.verify.intel.quote import Certification
from s3ml.attestation.verify.intel.root import Anchor, choose_anchor
from s3ml.attestation.verify.intel.signatures import find_broken, is_signed_by_point
from s3ml.attestation.verify.result import Examination

QUOTE_CHAIN = "quote's chain"
KEPT_PER_LOGGED = 5  # bytes of memory for each byte of an event log, measured, rounded up

# What dcap-qvl says when it rejects, and the claim that it is about; the first fragment that occurs counts.
_REASONS = (
    ("Debug mode", "attributes"),
    ("TD attributes", "attributes"),
    ("SEPT_VE_DISABLE", "attributes"),
    ("TD migration", "attributes"),
    ("TD profiling", "attributes"),
    ("SERVTD_EXT", "attributes"),
    ("service TD", "service_td"),
    ("TDX module identity", "tdx_module"),
    ("current TDX TCB", "tcb_status"),
    ("xpired", "collateral_validity"),
    ("in the future", "collateral_validity"),
    ("Fmspc mismatch", "fmspc"),
    ("component count", "tcb_info"),
    ("TcbInfo", "tcb_info"),
    ("tcb_info", "tcb_info"),
    ("TCB info", "tcb_info"),
    ("qe_identity", "qe_identity"),
    ("QE Identity", "qe_identity"),
    ("QeIdentity", "qe_identity"),
    ("QE MRSIGNER", "qe_identity"),
    ("QE ISV", "qe_identity"),
    ("QE ATTRIBUTES", "qe_identity"),
    ("QE MISCSELECT", "qe_identity"),
    ("QE report validation", "qe_identity"),
    ("TCB status", "tcb_status"),
    ("TCB level", "tcb_status"),
    ("root CA CRL", "revocation"),
    ("certificate chain", "certificate_chain"),
    ("extension", "certificate_chain"),
)
_SEVERITIES: tuple[TcbStatus, ...] = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
SIGNATURE = "quote_signature"
_BROKEN_SIGNATURE = frozenset({SIGNATURE, "certificate_chain", "root"})
# Findings of ours that say more exactly why dcap-qvl found no chain.
_CHAIN_FINDINGS = frozenset(
    {"certificate_role", "certificate_validity", "collateral_validity", "revocation", "root", "root_validity"}
)


class _Tcb(msgspec.Struct, frozen=True):
    status: str
    advisory_ids: tuple[str, ...]


class _Pck(msgspec.Struct, frozen=True):
    pce_id: tuple[int, ...]
    pce_svn: int


class _Level(msgspec.Struct, frozen=True):
    status: str = msgspec.field(name="tcbStatus")
    advisory_ids: tuple[str, ...] = msgspec.field(name="advisoryIDs")


class _Platform(msgspec.Struct, frozen=True):
    pck: _Pck
    current_tcb_level: _Level | None


class _Claims(msgspec.Struct, frozen=True):
    """The part of dcap-qvl's claims that is used."""

    tcb: _Tcb
    platform: _Platform

    @property
    def statuses(self) -> tuple[_Tcb | _Level, ...]:
        """What Intel says of the platform; for TDX 1.5, also of the module that replaced the first one."""
        current = self.platform.current_tcb_level
        return (self.tcb,) if current is None else (self.tcb, current)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is particular to SGX or to TDX in a quote.

    Args:
        documents: The ids of the TCB info and of the quoting enclave's identity that it needs.
        report_data: The 64 bytes that the report carries.
        mismatches: What is wrong with the report whatever the policy says.
        claims: Makes the claims, given what Intel says of the platform.
    """

    documents: tuple[str, str]
    report_data: bytes
    mismatches: tuple[Mismatch, ...]
    claims: Callable[[IntelTcb], Claims]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found of a quote's platform.

    Args:
        root: Under which it was examined.
        facts: What the collateral says; None without one.
        verdict: What dcap-qvl proves; None where it rejects.
        mismatches: Everything that is broken, of the quoted report too.
        valid_from: With `valid_until`: when all certificates and the collateral are valid.
        valid_until: See `valid_from`.
    """

    root: RootOfTrust
    facts: CollateralFacts | None
    verdict: _Claims | None
    mismatches: tuple[Mismatch, ...]
    valid_from: datetime
    valid_until: datetime


def examine_quote(
    evidence: Evidence,
    certification: Certification,
    read_body: Callable[[], Body],
    *,
    decisive: Callable[[bytes], bytes],
    simulated: Sequence[bytes] | None,
    now: datetime,
    cache: VerdictCache | None,
) -> Examination:
    """Check everything about a quote that no policy changes, and collect what is broken.

    A quote that is remembered is not checked again; of one whose platform is remembered, report and signature
    are. Where either is broken, everything is checked, so that a rejection is the same with any cache.

    Args:
        evidence: From an untrusted peer.
        certification: Who vouches for its quote.
        read_body: Reads what is particular to its kind.
        decisive: Returns what of header and report may decide over the platform.
        simulated: The simulation roots that the caller's policy names, DER; None for Intel's root.
        now: Aware UTC.
        cache: What was proved before.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    chain = read_pem(certification.chain, what=QUOTE_CHAIN)
    anchor = choose_anchor(chain.ders[-1], simulated)
    collateral = evidence.collateral
    issuers = () if collateral is None else parse_issuers(collateral)
    if cache is None or collateral is None or evidence.certificates is not None:
        body = read_body()
        return _examination(certification, body, _prove(evidence, certification, body, anchor, now))
    certified = identify_certified_key(certification, collateral, (chain, *issuers), root=anchor.root.der)
    quote_key = identify_quote(certified, certification, evidence.event_log)
    if whole := cache.wholes.recall(quote_key, Examination, now=now):
        return whole
    body = read_body()
    platform_key = identify_platform(certified, decisive(certification.signed))
    proof = cache.platforms.recall(platform_key, Proof, now=now)
    if proof is None or not _is_sound(body, certification):
        proof = _prove(evidence, certification, body, anchor, now)
    examination = _examination(certification, body, proof)
    if examination.is_accepted:
        cache.platforms.keep(platform_key, proof)
        cache.wholes.keep(quote_key, examination, size_bytes=KEPT_PER_LOGGED * len(evidence.event_log or b""))
    return examination


def _is_sound(body: Body, certification: Certification) -> bool:
    """Tell whether report and signature hold, where the attestation key is known to be good."""
    return not body.mismatches and is_signed_by_point(
        certification.attestation_key, certification.signature, certification.signed
    )


def _prove(
    evidence: Evidence, certification: Certification, body: Body, anchor: Anchor, now: datetime
) -> Proof:
    """Check all of a quote.

    1. The collateral is there, and nothing of another vendor's.
    2. The quote's chain is a PCK certificate, a PCK CA and the root itself, and the root is valid.
    3. The report is one of production; the quoting enclave's report data are zero where unused.
    4. The collateral is signed by the right roles, of the right kinds, and valid.
    5. dcap-qvl accepts the quote: signatures, chains, revocation, quoting enclave, TCB level.
    6. The TCB info is for the platform's PCEID.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    chains, root = ChainReader(), anchor.root
    platform = chains.read(certification.chain, what=QUOTE_CHAIN)
    mismatches = _check_completeness(evidence)  # (1)
    mismatches += check_chain(platform, (ROLES_PCK, ROLES_PCK_CA), root, now)  # (2)
    mismatches += _check_root(root, now)
    mismatches += body.mismatches  # (3)
    mismatches += _check_quoting_enclave(certification)
    facts, verdict = None, None
    if evidence.collateral is not None:
        facts = read_collateral(
            evidence.collateral, platform, documents=body.documents, chains=chains, root=root, now=now
        )  # (4)
        mismatches += facts.mismatches
        quote = canonical_quote(certification, read_pem(certification.chain, what=QUOTE_CHAIN))
        claims = _verify(quote, canonical_collateral(evidence.collateral), anchor.verifier, now)  # (5)
        if isinstance(claims, Mismatch):
            mismatches += find_broken(
                certification, evidence.collateral, platform=platform, chains=chains, root=root
            )
            mismatches += _unexplained(claims, mismatches)
        else:
            verdict = claims
            mismatches += _check_pce_id(bytes(claims.platform.pck.pce_id), facts)  # (6)
    dated: list[Certificate | RootOfTrust] = [*platform.certificates, root]
    return Proof(
        root=root,
        facts=facts,
        verdict=verdict,
        mismatches=tuple(dict.fromkeys(mismatches)),
        valid_from=max(*(one.not_before for one in dated), *((facts.valid_from,) if facts else ())),
        valid_until=min(*(one.not_after for one in dated), *((facts.valid_until,) if facts else ())),
    )


def _examination(certification: Certification, body: Body, proof: Proof) -> Examination:
    facts, verdict = proof.facts, proof.verdict
    pce_svn = certification.pce_svn
    if pce_svn is None:
        pce_svn = verdict.platform.pck.pce_svn if verdict else 0
    statuses = verdict.statuses if verdict else ()
    tcb = IntelTcb(
        status=max((one.status for one in statuses), key=_severity, default=None),
        advisories=tuple(dict.fromkeys(advisory for one in statuses for advisory in one.advisory_ids)),
        evaluation_data_number=facts.evaluation_data_number if facts else 0,
        qe_svn=certification.qe_svn,
        pce_svn=pce_svn,
    )
    return Examination(
        claims=body.claims(tcb),
        report_data=body.report_data,
        mismatches=proof.mismatches,
        doubt=_doubt(proof),
        root_der=proof.root.der,
        platform=f"{tcb.status}, advisories: {', '.join(tcb.advisories) or 'none'}",
        issued_at=facts.issued_at if facts else None,
        signed_at=facts.signed_at if facts else proof.root.not_before,
        valid_from=proof.valid_from,
        valid_until=proof.valid_until,
    )


def _severity(status: str) -> int:
    """Tell how bad a status is; one that no policy can name, such as TDRelaunchAdvised, is the worst."""
    return _SEVERITIES.index(status) if status in _SEVERITIES else len(_SEVERITIES)


def _doubt(proof: Proof) -> str | None:
    """Say why the quote's claims are unproven; None where dcap-qvl accepted it."""
    if proof.facts is None:
        return "claimed by a quote that cannot be verified"
    if proof.verdict is not None:
        return None
    if any(mismatch.claim in _BROKEN_SIGNATURE for mismatch in proof.mismatches):
        return "claimed by a quote whose signature does not hold"
    return "claimed by a quote that does not verify"


def _check_completeness(evidence: Evidence) -> list[Mismatch]:
    mismatches = []
    if evidence.collateral is None:
        mismatches.append(Mismatch(claim="collateral", expected="collateral with the quote", got="none"))
    if evidence.certificates is not None:
        expected = f"none with {evidence.technology}, whose certificates travel in the quote"
        mismatches.append(Mismatch(claim="certificates", expected=expected, got="a chain"))
    return mismatches


def _check_root(root: RootOfTrust, now: datetime) -> list[Mismatch]:
    if root.not_before <= now <= root.not_after:
        return []
    got = f"valid from {root.not_before.isoformat()} to {root.not_after.isoformat()}"
    return [Mismatch(claim="root_validity", expected=f"a root valid at {now.isoformat()}", got=got)]


def _verify(
    quote: bytes, collateral: QuoteCollateralV3, verifier: QuoteVerifier, now: datetime
) -> _Claims | Mismatch:
    """Return what dcap-qvl proves, whatever the TCB status, or why it rejects."""
    now_s = int(now.timestamp())
    try:
        claims = verifier.verify_with_policy(
            quote,
            collateral,
            now_s,
            QuotePolicy.claims_only(now_s),
        )
        return msgspec.json.decode(claims.to_json(), type=_Claims)
    except (ValueError, msgspec.DecodeError) as error:
        reason = str(error).removeprefix("Verification failed: ")
        claim = next((claim for fragment, claim in _REASONS if fragment in reason), SIGNATURE)
        return Mismatch(claim=claim, expected="a quote that dcap-qvl verifies", got=reason[:200])


def _unexplained(rejection: Mismatch, found: list[Mismatch]) -> list[Mismatch]:
    """Return dcap-qvl's rejection where none of our own findings says the same more exactly."""
    claims = {mismatch.claim for mismatch in found}
    if rejection.claim in claims or (rejection.claim == "certificate_chain" and claims & _CHAIN_FINDINGS):
        return []
    return [rejection]


def _check_pce_id(pce_id: bytes, facts: CollateralFacts) -> list[Mismatch]:
    if facts.pce_id.lower() == pce_id.hex():
        return []
    return [Mismatch(claim="pce_id", expected=f"TCB info for PCEID {pce_id.hex()}", got=facts.pce_id[:40])]


def _check_quoting_enclave(certification: Certification) -> list[Mismatch]:
    unused = certification.quoting_enclave.report_data[32:]
    if not any(unused):
        return []
    return [Mismatch(claim="qe_report_data", expected="32 zero bytes in the upper half", got=unused.hex())]
