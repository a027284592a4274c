"""AMD's processor lines: by their CPUID, by the names in their certificates, and how they lay out a TCB.

Source: AMD 56860, SEV Secure Nested Paging Firmware ABI Specification 1.58, section 2.2 (TCB_VERSION) and
table 23 (CPUID_FAM_ID, CPUID_MOD_ID); AMD 57230, VCEK Certificate and KDS Interface Specification
(productName, structVersion, hwID).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.policy import SnpTcb

COMPONENTS = ("bootloader", "tee", "snp", "microcode", "fmc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One processor line.

    Args:
        name: As policies have it.
        certificate_names: What its certificates call it, before the stepping.
        family: Of the CPUID.
        models: Of the CPUID.
        struct_version: Of the extensions in its certificates.
        hardware_id_bytes: How many bytes identify a chip in a certificate; a report pads them with zeros.
        tcb_layout: Which component of a TCB each of its bytes is; those without one are reserved.
    """

    name: str
    certificate_names: frozenset[str]
    family: int
    models: tuple[range, ...]
    struct_version: int
    hardware_id_bytes: int
    tcb_layout: tuple[str | None, ...]

    def read_tcb(self, raw: bytes, what: str) -> SnpTcb:
        """Read a TCB of a report.

        Args:
            raw: 8 bytes, from an untrusted peer.
            what: Names it in messages.

        Raises:
            EvidenceMalformedError: a reserved byte is not zero.
        """
        components = {name: byte for name, byte in zip(self.tcb_layout, raw, strict=True) if name}
        if sum(raw) != sum(components.values()):
            raise EvidenceMalformedError(f"report: {what}: expected zeros where {self.name} reserves bytes")
        return SnpTcb(**components)

    def write_tcb(self, tcb: SnpTcb) -> bytes:
        """Return `tcb` as a report has it."""
        return bytes(getattr(tcb, name) if name else 0 for name in self.tcb_layout)


_BEFORE_TURIN = ("bootloader", "tee", None, None, None, None, "snp", "microcode")
_FROM_TURIN = ("fmc", "bootloader", "tee", "snp", None, None, None, "microcode")

MILAN = Product(
    name="Milan",
    certificate_names=frozenset({"Milan"}),
    family=0x19,
    models=(range(0x10),),
    struct_version=0,
    hardware_id_bytes=64,
    tcb_layout=_BEFORE_TURIN,
)
# Bergamo and Siena are of this line: they have its root.
GENOA = Product(
    name="Genoa",
    certificate_names=frozenset({"Genoa", "Bergamo", "Siena"}),
    family=0x19,
    models=(range(0x10, 0x20), range(0xA0, 0xB0)),
    struct_version=0,
    hardware_id_bytes=64,
    tcb_layout=_BEFORE_TURIN,
)
TURIN = Product(
    name="Turin",
    certificate_names=frozenset({"Turin"}),
    family=0x1A,
    models=(range(0x12),),
    struct_version=1,
    hardware_id_bytes=8,
    tcb_layout=_FROM_TURIN,
)
PRODUCTS: Mapping[str, Product] = MappingProxyType({one.name: one for one in (MILAN, GENOA, TURIN)})


def product_of_cpuid(family: int, model: int) -> Product | None:
    """Return the processor line with this combined family and model; None where none of ours has it."""
    for product in PRODUCTS.values():
        if family == product.family and any(model in models for models in product.models):
            return product
    return None


def product_of_certificate(name: str) -> Product | None:
    """Return the processor line that a certificate calls `name`, such as ``Milan-B0`` or ``Turin``."""
    line = name.partition("-")[0]
    return next((one for one in PRODUCTS.values() if line in one.certificate_names), None)


def is_at_most(lower: SnpTcb, higher: SnpTcb) -> bool:
    """Tell whether no component of `lower` exceeds that of `higher`."""
    return all(getattr(lower, name) <= getattr(higher, name) for name in COMPONENTS)


def describe_tcb(tcb: SnpTcb) -> str:
    """Return `tcb` for people."""
    return ", ".join(f"{name} {getattr(tcb, name)}" for name in COMPONENTS)
