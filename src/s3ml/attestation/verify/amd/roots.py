"""The roots of trust of SEV-SNP: AMD's, one per processor line, or simulated ones that a policy names.

AMD's are pinned by the SHA-256 of the certificate; nothing configures them. VLEKs have no root of their own:
an ASVK is signed by the same ARK as the ASK.

Source: AMD's key distribution service, kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.verify.amd.product import PRODUCTS, Product
from s3ml.attestation.verify.comparison import mismatch_unless

SIMULATED_PREFIX = "S3ML simulated "
PINNED: Mapping[str, str] = MappingProxyType(
    {
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd": "Milan",
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1": "Genoa",
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a": "Turin",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpRoot:
    """The root that a chain has to end with.

    Args:
        der: What the caller trusts; what the chain ends with, where that is trusted.
        prefix: What common names under it begin with.
        mismatches: That the chain ends with another root.
    """

    der: bytes
    prefix: str
    mismatches: tuple[Mismatch, ...]


def choose_root(claimed: bytes, product: Product, simulated: Sequence[bytes] | None) -> SnpRoot:
    """Return the root that a chain has to end with, byte for byte.

    Args:
        claimed: What it ends with, DER.
        product: The processor line of its leaf.
        simulated: The simulation roots that the caller's policy names, DER, at least one; None for AMD's.
    """
    fingerprint = hashlib.sha256(claimed).hexdigest()
    if simulated is None:
        is_trusted, der, prefix = fingerprint in PINNED, claimed, ""
        expected = [digest for digest, line in PINNED.items() if line == product.name]
    else:
        is_trusted, prefix = claimed in simulated, SIMULATED_PREFIX
        der = claimed if is_trusted else simulated[0]
        expected = [hashlib.sha256(root).hexdigest() for root in simulated]
    mismatches = mismatch_unless(
        holds=is_trusted,
        claim="root",
        expected=f"the root with SHA-256 {' or '.join(expected)}",
        got=f"a root with SHA-256 {fingerprint}",
    )
    return SnpRoot(der=der, prefix=prefix, mismatches=tuple(mismatches))


def product_of_root(common_name: str, prefix: str) -> Product | None:
    """Return the processor line that a root is for, by its common name; None where it names none."""
    start = f"{prefix}ARK-"
    return PRODUCTS.get(common_name.removeprefix(start)) if common_name.startswith(start) else None
