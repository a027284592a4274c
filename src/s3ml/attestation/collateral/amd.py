"""What to ask AMD's key distribution service for a SEV-SNP report.

Pure. What is asked follows from the report itself: its processor, the firmware versions that its key stands
for, and whether the chip's key (VCEK) or the cloud's (VLEK) signed it. Reports of version 2 do not say which
processor line they are of; then the lines are tried in the caller's order. AMD gives a VLEK's certificate to
the cloud alone, which may relay it at the same path.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, chapter 4; AMD 56860, SEV-SNP Firmware
ABI, ATTESTATION_REPORT and TCB_VERSION.
"""

import hashlib
from dataclasses import dataclass
from functools import partial

from cryptography import x509

from s3ml.attestation.collateral.amd_proof import (
    Authorities,
    Leaf,
    prove_amd_crl,
    prove_authorities,
    prove_leaf,
)
from s3ml.attestation.collateral.amd_reply import read_amd_crl, read_authorities, read_certificate
from s3ml.attestation.collateral.endpoints import check_urls
from s3ml.attestation.collateral.freshness import Freshness
from s3ml.attestation.collateral.item import Inquiry, Target
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.policy.alternative import EndorsementKey, SnpProduct
from s3ml.attestation.verify.amd.product import PRODUCTS, Product, product_of_cpuid
from s3ml.attestation.verify.amd.report import SnpReport
from s3ml.primitives.errors import ConfigurationError

# How KDS calls the components of a TCB, in the order in which it documents them.
_QUERY = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL", "fmc": "fmcSPL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdService:
    """AMD's key distribution service, and what is asked of it.

    Args:
        endpoints: Where it answers, such as ``https://kdsintf.amd.com``; the first that delivers what AMD
            signed is enough.
        root: A simulated ARK, DER; None for AMD's own, which are pinned by processor line.
        products: Which processor lines to try for a report that does not say its own, in this order.

    Raises:
        ConfigurationError: no address, no such line, or a root that is no certificate.
    """

    endpoints: tuple[str, ...]
    root: bytes | None = None
    products: tuple[SnpProduct, ...] = ("Milan", "Genoa", "Turin")

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", check_urls(self.endpoints, what="KDS"))
        if not self.products or not set(self.products) <= set(PRODUCTS):
            raise ConfigurationError(
                f"collateral: products: expected some of {', '.join(PRODUCTS)}, got none or others"
            )
        if self.root is not None:
            try:
                x509.load_der_x509_certificate(self.root)
            except ValueError as error:
                raise ConfigurationError("collateral: expected a root certificate, DER") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Which key signed a report.

    Args:
        key: Of the chip or of the cloud.
        chip_id: The chip's, 64 bytes; None with the cloud's key.
        tcb: The firmware versions that the key stands for, 8 bytes as in the report.
    """

    key: EndorsementKey
    chip_id: bytes | None
    tcb: bytes


def read_signer(report: SnpReport) -> Signer:
    """Return which key signed `report`, as it claims.

    Raises:
        EvidenceMalformedError: it is the chip's, and the platform's owner hides which chip that is.
    """
    is_chips_own = report.signing_key == "VCEK"
    if is_chips_own and report.is_chip_masked:
        raise EvidenceMalformedError("report: expected a chip id, got one that the platform's owner masked")
    return Signer(
        key=report.signing_key, chip_id=report.chip_id if is_chips_own else None, tcb=report.reported_tcb
    )


def candidates(service: AmdService, report: SnpReport) -> tuple[Product, ...]:
    """Return the processor lines to ask about: the report's own, or the caller's in his order.

    Raises:
        EvidenceMalformedError: the report is of a line without SEV-SNP.
    """
    if report.cpuid is None:
        return tuple(PRODUCTS[name] for name in service.products)
    family, model = report.cpuid.family, report.cpuid.model
    product = product_of_cpuid(family, model)
    if product is None:
        expected = f"report: expected a processor of {', '.join(PRODUCTS)}"
        raise EvidenceMalformedError(f"{expected}, got family {family:#x}, model {model:#x}")
    return (product,)


def ask_authorities(service: AmdService, key: EndorsementKey, product: Product) -> Inquiry:
    """Return what to ask `service` for the authorities above a report's key."""
    return Inquiry(
        name=f"{_line(service, key, product)}-authorities",
        what=f"authorities of {product.name} {key}s",
        targets=_targets(service, f"{_path(key, product)}/cert_chain"),
        read=read_authorities,
        prove=partial(prove_authorities, key=key, product=product, root=service.root),
        refresh_after_s=None,
        max_age_s=None,
    )


def ask_crl(
    service: AmdService,
    key: EndorsementKey,
    product: Product,
    *,
    authorities: Authorities,
    freshness: Freshness,
) -> Inquiry:
    """Return what to ask `service` for the revocation list of the proven `authorities`."""
    return Inquiry(
        name=f"{_line(service, key, product)}-crl",
        what=f"CRL of {product.name} {key}s",
        targets=_targets(service, f"{_path(key, product)}/crl"),
        read=read_amd_crl,
        prove=partial(prove_amd_crl, root=authorities.root),
        refresh_after_s=freshness.refresh_after_s,
        max_age_s=freshness.max_crl_age_s,
    )


def ask_leaf(service: AmdService, product: Product, signer: Signer, *, authorities: Authorities) -> Inquiry:
    """Return what to ask `service` for the certificate of the key that signed a report.

    Raises:
        EvidenceMalformedError: the TCB is none of `product`.
    """
    key = signer.key
    tcb = product.read_tcb(signer.tcb, "reported TCB")
    who = "cert" if signer.chip_id is None else signer.chip_id[: product.hardware_id_bytes].hex()
    parts = (f"{_QUERY[name]}={getattr(tcb, name):02d}" for name in _QUERY if name in product.tcb_layout)
    return Inquiry(
        name=f"{_line(service, key, product)}-{who}-{signer.tcb.hex()}",
        what=f"{key} of a {product.name} processor",
        targets=_targets(service, f"{_path(key, product)}/{who}?{'&'.join(parts)}"),
        read=read_certificate,
        prove=partial(
            prove_leaf,
            leaf=Leaf(key=key, product=product, chip_id=signer.chip_id, tcb=tcb),
            issuer=authorities.issuer,
        ),
        refresh_after_s=None,
        max_age_s=None,
    )


def _line(service: AmdService, key: EndorsementKey, product: Product) -> str:
    """Return the first words of names; what another root signed never gets the names of AMD's."""
    root = service.root
    owner = f"simulated-{hashlib.sha256(root).hexdigest()[:16]}" if root is not None else "amd"
    return f"{owner}-{key.lower()}-{product.name.lower()}"


def _path(key: EndorsementKey, product: Product) -> str:
    return f"/{key.lower()}/v1/{product.name}"


def _targets(service: AmdService, path: str) -> tuple[Target, ...]:
    return tuple(Target(url=endpoint + path, fields={}) for endpoint in service.endpoints)
