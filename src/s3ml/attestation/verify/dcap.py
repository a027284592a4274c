"""SGX quotes under a given root: dcap-qvl's proof, and every rule that it leaves to its callers.

dcap-qvl proves signatures, chains, revocation, the quoting enclave's identity and the TCB level. It holds
the GIL for about half a millisecond, and reports failures as text; here the text names a mismatch, and never
decides.

Source: Intel DCAP; the package dcap-qvl.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec
from dcap_qvl import QuoteCollateralV3, QuotePolicy, QuoteVerifier

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Collateral
from s3ml.attestation.verify.certificates import (
    ROLES_PCK,
    ROLES_PCK_CA,
    ChainReader,
    RootOfTrust,
    check_chain,
)
from s3ml.attestation.verify.sgx_collateral import CollateralFacts, read_collateral
from s3ml.attestation.verify.sgx_quote import (
    FLAG_AEX_NOTIFY,
    FLAG_CET,
    FLAG_INIT,
    FLAG_MODE64BIT,
    SgxQuote,
)

QUOTE_CHAIN = "quote's chain"
FLAGS_REQUIRED = FLAG_INIT | FLAG_MODE64BIT
FLAGS_TOLERATED = FLAG_CET | FLAG_AEX_NOTIFY

# What dcap-qvl says when it rejects, and the claim that it is about; the first fragment that occurs counts.
_REASONS = (
    ("Debug mode", "attributes"),
    ("xpired", "collateral_validity"),
    ("in the future", "collateral_validity"),
    ("Fmspc mismatch", "fmspc"),
    ("tcb_info", "tcb_info"),
    ("TCB info", "tcb_info"),
    ("qe_identity", "qe_identity"),
    ("QE Identity", "qe_identity"),
    ("QE MRSIGNER", "qe_identity"),
    ("QE ISV", "qe_identity"),
    ("QE report validation", "qe_identity"),
    ("TCB status", "tcb_status"),
    ("TCB level", "tcb_status"),
    ("root CA CRL", "revocation"),
    ("certificate chain", "certificate_chain"),
    ("extension", "certificate_chain"),
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


class _Platform(msgspec.Struct, frozen=True):
    pck: _Pck


class _Claims(msgspec.Struct, frozen=True):
    """The part of dcap-qvl's claims that is used."""

    tcb: _Tcb
    platform: _Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A quote after every check that no policy changes.

    Args:
        quote: What it says; proven only where `mismatches` is empty.
        facts: What the collateral says; likewise.
        tcb_status: dcap-qvl's verdict on the platform; None where it rejected the quote.
        advisories: The open advisories, likewise.
        mismatches: Every rule that was broken.
    """

    quote: SgxQuote
    facts: CollateralFacts
    tcb_status: str | None
    advisories: tuple[str, ...]
    mismatches: tuple[Mismatch, ...]

    @property
    def doubt(self) -> str | None:
        """Say why the quote's claims are unproven; None where dcap-qvl accepted it."""
        if self.tcb_status is not None:
            return None
        if any(mismatch.claim in _BROKEN_SIGNATURE for mismatch in self.mismatches):
            return "claimed by a quote whose signature does not hold"
        return "claimed by a quote that does not verify"


def examine(
    data: bytes,
    quote: SgxQuote,
    collateral: Collateral,
    *,
    chains: ChainReader,
    root: RootOfTrust,
    verifier: QuoteVerifier,
    now: datetime,
) -> Examination:
    """Check everything about a quote that no policy changes, and collect what is broken.

    1. The quote's chain is a PCK certificate, a PCK CA and the root itself, and the root is valid.
    2. The collateral is signed by the right roles, of the right kinds, and valid.
    3. The attributes are those of production; the quoting enclave's report data are zero where unused.
    4. dcap-qvl accepts the quote: signatures, chains, revocation, quoting enclave, TCB level.
    5. The TCB info is for the platform's PCEID.

    Args:
        data: The quote as it was delivered.
        quote: The same, taken apart.
        collateral: From an untrusted peer.
        chains: A reader for the chains of this evidence.
        root: The one root of trust.
        verifier: dcap-qvl's verifier for that root.
        now: Aware UTC.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    platform = chains.read(quote.chain, what=QUOTE_CHAIN)
    mismatches = check_chain(platform, (ROLES_PCK, ROLES_PCK_CA), root, now)  # (1)
    mismatches += _check_root(root, now)
    facts = read_collateral(collateral, platform, chains=chains, root=root, now=now)  # (2)
    mismatches += facts.mismatches
    mismatches += _check_reports(quote)  # (3)
    claims = _prove(data, collateral, verifier, now)  # (4)
    verdict = None
    if isinstance(claims, Mismatch):
        mismatches += _unexplained(claims, mismatches)
    else:
        verdict = claims.tcb
        mismatches += _check_pce_id(bytes(claims.platform.pck.pce_id), facts)  # (5)
    return Examination(
        quote=quote,
        facts=facts,
        tcb_status=verdict.status if verdict else None,
        advisories=verdict.advisory_ids if verdict else (),
        mismatches=tuple(dict.fromkeys(mismatches)),
    )


def _check_root(root: RootOfTrust, now: datetime) -> list[Mismatch]:
    if root.not_before <= now <= root.not_after:
        return []
    got = f"valid from {root.not_before.isoformat()} to {root.not_after.isoformat()}"
    return [Mismatch(claim="root_validity", expected=f"a root valid at {now.isoformat()}", got=got)]


def _prove(data: bytes, collateral: Collateral, verifier: QuoteVerifier, now: datetime) -> _Claims | Mismatch:
    """Return what dcap-qvl proves, whatever the TCB status, or why it rejects."""
    now_s = int(now.timestamp())
    try:
        claims = verifier.verify_with_policy(
            data,
            QuoteCollateralV3(**msgspec.structs.asdict(collateral)),
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


def _check_reports(quote: SgxQuote) -> list[Mismatch]:
    mismatches = []
    flags = quote.enclave.flags
    if flags & FLAGS_REQUIRED != FLAGS_REQUIRED or flags & ~(FLAGS_REQUIRED | FLAGS_TOLERATED):
        mismatches.append(
            Mismatch(
                claim="attributes",
                expected="INIT and MODE64BIT, no DEBUG, PROVISION_KEY, EINITTOKEN_KEY, KSS or reserved bit",
                got=f"{flags:#018x}",
            )
        )
    if any(quote.quoting_enclave.report_data[32:]):
        mismatches.append(
            Mismatch(
                claim="qe_report_data",
                expected="32 zero bytes in the upper half",
                got=quote.quoting_enclave.report_data[32:].hex(),
            )
        )
    return mismatches
