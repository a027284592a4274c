"""The numbered steps of verification, and which claims each is about: one table for code, people and pages.

Source: docs/spec/evidence.md, section "Verification".
"""

from collections.abc import Iterable, Mapping

from s3ml.attestation.errors import Mismatch, Step

STEPS: tuple[tuple[str, frozenset[str]], ...] = (
    ("The policy accepts this kind of TEE", frozenset({"tee"})),
    ("The evidence is complete", frozenset({"collateral", "certificates", "event_log", "crl"})),
    (
        "The certificates lead to the root",
        frozenset({"root", "root_validity", "certificate_chain", "certificate_role", "certificate_validity"}),
    ),
    ("Nothing that counts is expired or revoked", frozenset({"collateral_validity", "revocation"})),
    (
        "What the vendor signed is about this platform",
        frozenset(
            {
                "tcb_info",
                "qe_identity",
                "qe_report_data",
                "fmspc",
                "pce_id",
                "product",
                "chip_id",
                "tcb_version",
                "tdx_module",
            }
        ),
    ),
    ("The signature holds", frozenset({"quote_signature"})),
    ("The TEE is in production mode", frozenset({"attributes", "guest_policy", "service_td", "vmpl"})),
    ("The quote answers this very request", frozenset({"report_data"})),
    (
        "The code is one that the policy names",
        frozenset(
            {
                "measurement",
                "signer",
                "author",
                "product_id",
                "family_id",
                "image_id",
                "svn",
                "rtmr0",
                "rtmr1",
                "rtmr2",
                "rtmr3",
                "events",
                "config_id",
                "host_data",
            }
        ),
    ),
    (
        "The platform is in a state that the policy tolerates",
        frozenset(
            {
                "tcb_status",
                "advisories",
                "qe_svn",
                "pce_svn",
                "products",
                "chip_ids",
                "endorsement_key",
                "min_tcb",
            }
        ),
    ),
    (
        "The collateral is new enough",
        frozenset({"tcb_evaluation_data_number", "collateral_age"}),
    ),
)

FIRST_ABOUT_THE_QUOTE = 5  # certificates and dates hold or not whatever the quote says


def report_steps(
    mismatches: Iterable[Mismatch], details: Mapping[int, str], *, doubt: str | None = None
) -> tuple[Step, ...]:
    """Return every step with its outcome.

    Args:
        mismatches: All that were found; a step holds when none is about one of its claims.
        details: What a step that holds proved, by its number.
        doubt: Why nothing is proven of what the quote says, so that no step about it holds either.
    """
    found = tuple(mismatches)
    steps = []
    for number, (title, claims) in enumerate(STEPS, start=1):
        broken = [str(mismatch) for mismatch in found if mismatch.claim in claims]
        if doubt is not None and number >= FIRST_ABOUT_THE_QUOTE:
            broken = broken or [f"unproven: {doubt}"]
        detail = "; ".join(broken) or details.get(number, "")
        steps.append(Step(number=number, title=title, detail=detail, holds=not broken))
    return tuple(steps)
