"""Who vouches for a report: the chain from the endorsement key to the root, and the root's revocation list.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification; docs/spec/evidence.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import SnpCertificates
from s3ml.attestation.verify.amd.certificate import AmdCertificate
from s3ml.attestation.verify.amd.certificates import (
    CHAIN_CERTIFICATES,
    check_chain,
    check_product,
    read_chain,
)
from s3ml.attestation.verify.amd.endorsement import Endorsement, read_endorsement
from s3ml.attestation.verify.amd.revocation import (
    RevocationList,
    check_revocation,
    parse_revocation_list,
)
from s3ml.attestation.verify.amd.roots import SnpRoot, choose_root
from s3ml.primitives.encoding import tagged_sha256

PLATFORM_TAG = "S3ML verified SEV-SNP platform v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouching:
    """Certificates that were read, and are trusted in nothing.

    Args:
        certificates: Leaf first, root last: three.
        endorsement: What the leaf says.
        root: That the caller trusts.
        revocations: The root's list; None where it was not given.
        key: A digest of all of it, as it was read.
    """

    certificates: tuple[AmdCertificate, ...]
    endorsement: Endorsement
    root: SnpRoot
    revocations: RevocationList | None
    key: bytes

    @property
    def begins(self) -> tuple[datetime, ...]:
        """When each part of it was signed, or is valid from."""
        issued = () if self.revocations is None else (self.revocations.issued,)
        return (*(certificate.not_before for certificate in self.certificates), *issued)

    @property
    def ends(self) -> tuple[datetime, ...]:
        """Until when each part of it is valid."""
        expires = () if self.revocations is None else (self.revocations.expires,)
        return (*(certificate.not_after for certificate in self.certificates), *expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found of a chain and its revocation list, and when it is found again."""

    mismatches: tuple[Mismatch, ...]
    valid_from: datetime
    valid_until: datetime


def read_vouching(
    certificates: SnpCertificates | None, simulated: Sequence[bytes] | None
) -> Vouching | Mismatch:
    """Read who vouches for a report, or say what is missing.

    Args:
        certificates: From an untrusted peer.
        simulated: The simulation roots that the caller's policy names, DER; None for AMD's roots.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    if certificates is None:
        return Mismatch(claim="certificates", expected="AMD's certificates with the report", got="none")
    chain = read_chain(certificates.chain)
    if len(chain) != CHAIN_CERTIFICATES:
        expected = f"{CHAIN_CERTIFICATES} certificates: the endorsement key's, its authority's, the root"
        return Mismatch(claim="certificate_chain", expected=expected, got=str(len(chain)))
    endorsement = read_endorsement(chain[0].der)
    root = choose_root(chain[-1].der, endorsement.product, simulated)
    list_der = certificates.crl
    return Vouching(
        certificates=chain,
        endorsement=endorsement,
        root=root,
        revocations=None if list_der is None else parse_revocation_list(list_der),
        key=tagged_sha256(
            PLATFORM_TAG,
            root.prefix.encode("ascii"),
            root.der,
            *(certificate.der for certificate in chain),
            list_der or b"",
        ),
    )


def prove(vouching: Vouching, *, now: datetime) -> Proof:
    """Check everything about certificates and revocation list that does not depend on the report.

    1. The chain leads from an endorsement key to the root, and all of it is valid.
    2. The endorsement key is of the processor line that the root is for.
    3. The revocation list, where it is given, is the root's, valid, and has none of the chain in it.

    Args:
        vouching: From an untrusted peer.
        now: Aware.

    Raises:
        EvidenceMalformedError: an authority has no RSA key.
    """
    certificates, root = vouching.certificates, vouching.root
    product = vouching.endorsement.product
    mismatches = check_chain(certificates, vouching.endorsement, root, now=now)  # (1)
    mismatches += check_product(certificates, root, product, "endorsement key's certificate")  # (2)
    if vouching.revocations is not None:
        mismatches += check_revocation(vouching.revocations, certificates, now=now)  # (3)
    return Proof(
        mismatches=tuple(mismatches), valid_from=max(vouching.begins), valid_until=min(vouching.ends)
    )
