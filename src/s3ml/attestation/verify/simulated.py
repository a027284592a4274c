"""The simulated TEE: SGX quotes under the simulation root that the caller's own policy names.

The very code that verifies real quotes verifies these; only the root differs. It protects nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from dcap_qvl import QuoteVerifier

from s3ml.attestation.evidence import Evidence
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.certificates import ChainReader, root_of_trust
from s3ml.attestation.verify.dcap import QUOTE_CHAIN
from s3ml.attestation.verify.enclave import verify_under_root
from s3ml.attestation.verify.result import VerifiedEnclave
from s3ml.attestation.verify.sgx_quote import parse_sgx_quote


def verify_simulated(
    evidence: Evidence, alternatives: Sequence[Alternative], *, report_data: bytes, now: datetime
) -> VerifiedEnclave:
    """Verify simulated evidence; arguments and errors are those of `verify_evidence`.

    The root that the quote claims only picks among the policy's roots; where it is none of them, the first of
    those is used, and rejects.
    """
    quote = parse_sgx_quote(evidence.quote)
    chains = ChainReader()
    claimed = chains.read(quote.chain, what=QUOTE_CHAIN).root_der
    roots = [alternative.root or b"" for alternative in alternatives]
    root = claimed if claimed in roots else roots[0]
    return verify_under_root(
        evidence,
        quote,
        [alternative for alternative in alternatives if alternative.root == root],
        chains=chains,
        root=root_of_trust(root),
        verifier=_verifier(root),
        report_data=report_data,
        now=now,
    )


@lru_cache(maxsize=32)
def _verifier(root: bytes) -> QuoteVerifier:
    """Return dcap-qvl's verifier for a root that a policy names."""
    return QuoteVerifier(root)
