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
from typing import get_args

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
from s3ml.primitives.errors import ConfigurationError

PRODUCTS: tuple[SnpProduct, ...] = get_args(SnpProduct)

REPORT_BYTES = 1184
_VERSIONS = range(2, 6)
_FIRST_VERSION_WITH_CPUID = 3
_FLAGS, _REPORTED_TCB, _CPUID, _CHIP_ID = 0x48, 0x180, 0x188, 0x1A0
_TCB_BYTES, _CHIP_ID_BYTES, _TURIN_CHIP_ID_BYTES = 8, 64, 8
_SIGNING_KEY_SHIFT, _SIGNING_KEY_MASK = 2, 0b111
_KEYS: dict[int, EndorsementKey] = {0: "VCEK", 1: "VLEK"}
# Family, and the models from the first to the last, of each line.
_LINES: tuple[tuple[int, range, SnpProduct], ...] = (
    (0x19, range(0x10), "Milan"),
    (0x19, range(0x10, 0x20), "Genoa"),
    (0x19, range(0xA0, 0xB0), "Genoa"),
    (0x1A, range(0x20), "Turin"),
)
# Which byte of a TCB version holds what, by the names of the query; in the documented order.
_OLDER_TCB = {"blSPL": 0, "teeSPL": 1, "snpSPL": 6, "ucodeSPL": 7}
_TURIN_TCB = {"blSPL": 1, "teeSPL": 2, "snpSPL": 3, "ucodeSPL": 7, "fmcSPL": 0}


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
    products: tuple[SnpProduct, ...] = PRODUCTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoints", check_urls(self.endpoints, what="KDS"))
        if not self.products or not set(self.products) <= set(PRODUCTS):
            raise ConfigurationError(f"collateral: products: expected some of {', '.join(PRODUCTS)}")
        if self.root is not None:
            try:
                x509.load_der_x509_certificate(self.root)
            except ValueError as error:
                raise ConfigurationError("collateral: expected a root certificate, DER") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpProcessor:
    """Which processor a report is of, as it claims itself.

    Args:
        product: Its line; None where the report does not say.
        key: Which key signed the report.
        chip_id: 64 bytes.
        tcb: The reported firmware versions, 8 bytes.
    """

    product: SnpProduct | None
    key: EndorsementKey
    chip_id: bytes
    tcb: bytes


def read_processor(report: bytes) -> SnpProcessor:
    """Read which processor made a report.

    Args:
        report: A SEV-SNP report of version 2 to 5; its signature is not checked.

    Raises:
        EvidenceMalformedError: no such report, a processor line without SEV-SNP, another signing key, or
            a VCEK's report that hides its chip.
    """
    version = int.from_bytes(report[:4], "little")
    if len(report) != REPORT_BYTES or version not in _VERSIONS:
        raise EvidenceMalformedError(
            f"report: expected {REPORT_BYTES} bytes of version 2 to 5, got {len(report)} of version {version}"
        )
    kind = report[_FLAGS] >> _SIGNING_KEY_SHIFT & _SIGNING_KEY_MASK
    key = _KEYS.get(kind)
    if key is None:
        raise EvidenceMalformedError(f"report: expected one signed by a VCEK or VLEK, got key {kind}")
    chip_id = report[_CHIP_ID : _CHIP_ID + _CHIP_ID_BYTES]
    if key == "VCEK" and not any(chip_id):
        raise EvidenceMalformedError("report: expected a chip id, got one that the platform's owner masked")
    return SnpProcessor(
        product=_product(report[_CPUID], report[_CPUID + 1])
        if version >= _FIRST_VERSION_WITH_CPUID
        else None,
        key=key,
        chip_id=chip_id,
        tcb=report[_REPORTED_TCB : _REPORTED_TCB + _TCB_BYTES],
    )


def ask_authorities(service: AmdService, key: EndorsementKey, product: SnpProduct) -> Inquiry:
    """Return what to ask `service` for the authorities above a report's key."""
    return Inquiry(
        name=f"{_line(service, key, product)}-authorities",
        what=f"authorities of {product} {key}s",
        targets=_targets(service, f"{_path(key, product)}/cert_chain"),
        read=read_authorities,
        prove=partial(prove_authorities, key=key, product=product, root=service.root),
        refresh_after_s=None,
        max_age_s=None,
    )


def ask_crl(
    service: AmdService,
    key: EndorsementKey,
    product: SnpProduct,
    *,
    authorities: Authorities,
    freshness: Freshness,
) -> Inquiry:
    """Return what to ask `service` for the revocation list of the proven `authorities`."""
    return Inquiry(
        name=f"{_line(service, key, product)}-crl",
        what=f"CRL of {product} {key}s",
        targets=_targets(service, f"{_path(key, product)}/crl"),
        read=read_amd_crl,
        prove=partial(prove_amd_crl, root=authorities.root),
        refresh_after_s=freshness.refresh_after_s,
        max_age_s=freshness.max_crl_age_s,
    )


def ask_leaf(
    service: AmdService, processor: SnpProcessor, product: SnpProduct, *, authorities: Authorities
) -> Inquiry:
    """Return what to ask `service` for the certificate of the key that signed a report."""
    key = processor.key
    is_turin = product == "Turin"
    parts = _TURIN_TCB if is_turin else _OLDER_TCB
    versions = {name: processor.tcb[position] for name, position in parts.items()}
    chip_id = processor.chip_id[: _TURIN_CHIP_ID_BYTES if is_turin else _CHIP_ID_BYTES]
    hardware_id = chip_id if key == "VCEK" else None
    who = hardware_id.hex() if hardware_id is not None else "cert"
    query = "&".join(f"{name}={version:02d}" for name, version in versions.items())
    return Inquiry(
        name=f"{_line(service, key, product)}-{who}-{processor.tcb.hex()}",
        what=f"{key} of a {product} processor",
        targets=_targets(service, f"{_path(key, product)}/{who}?{query}"),
        read=read_certificate,
        prove=partial(
            prove_leaf,
            leaf=Leaf(key=key, hardware_id=hardware_id, versions=versions),
            issuer=authorities.issuer,
        ),
        refresh_after_s=None,
        max_age_s=None,
    )


def candidates(service: AmdService, processor: SnpProcessor) -> tuple[SnpProduct, ...]:
    """Return the processor lines to ask about: the report's own, or the caller's in his order."""
    return (processor.product,) if processor.product is not None else service.products


def _product(family: int, model: int) -> SnpProduct:
    for line, models, product in _LINES:
        if family == line and model in models:
            return product
    raise EvidenceMalformedError(
        f"report: expected a {', '.join(PRODUCTS[:-1])} or {PRODUCTS[-1]} processor, "
        f"got family {family:#x}, model {model:#x}"
    )


def _line(service: AmdService, key: EndorsementKey, product: SnpProduct) -> str:
    """Return the first words of names; what another root signed never gets the names of AMD's."""
    root = service.root
    owner = f"simulated-{hashlib.sha256(root).hexdigest()[:16]}" if root is not None else "amd"
    return f"{owner}-{key.lower()}-{product.lower()}"


def _path(key: EndorsementKey, product: SnpProduct) -> str:
    return f"/{key.lower()}/v1/{product}"


def _targets(service: AmdService, path: str) -> tuple[Target, ...]:
    return tuple(Target(url=endpoint + path, fields={}) for endpoint in service.endpoints)
