"""What the certificate of an endorsement key (VCEK or VLEK) says of its processor.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, section 2 (extensions of version 0 for
Milan and Genoa, of version 1 for Turin).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.policy import SnpTcb
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.verify.amd.certificate import CACHED_CERTIFICATES, parse_certificate
from s3ml.attestation.verify.amd.der import IA5_STRING, DerReader
from s3ml.attestation.verify.amd.product import Product, product_of_certificate

AMD_ARC = bytes.fromhex("2b060104019c7801")  # 1.3.6.1.4.1.3704.1
STRUCT_VERSION = AMD_ARC + b"\x01"
PRODUCT_NAME = AMD_ARC + b"\x02"
HARDWARE_ID = AMD_ARC + b"\x04"
CSP_ID = AMD_ARC + b"\x05"
_SPL = AMD_ARC + b"\x03"
SPL_OF_COMPONENTS: Mapping[int, Mapping[str, bytes]] = {
    0: {
        "bootloader": _SPL + b"\x01",
        "tee": _SPL + b"\x02",
        "snp": _SPL + b"\x03",
        "microcode": _SPL + b"\x08",
    },
    1: {
        "fmc": _SPL + b"\x09",
        "bootloader": _SPL + b"\x01",
        "tee": _SPL + b"\x02",
        "snp": _SPL + b"\x03",
        "microcode": _SPL + b"\x08",
    },
}
SPL_RESERVED: Mapping[int, tuple[bytes, ...]] = {
    0: (_SPL + b"\x04", _SPL + b"\x05", _SPL + b"\x06", _SPL + b"\x07"),
    1: (_SPL + b"\x05", _SPL + b"\x06", _SPL + b"\x07"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsement:
    """What AMD says of an endorsement key, unproven.

    Args:
        key: Of the processor or the cloud.
        kind: Which of the two.
        product: The processor line.
        tcb: What a VCEK was derived from, and a VLEK loaded for.
        chip_id: The processor as a report names it, 64 bytes; None with a VLEK, which no processor has alone.
    """

    key: ec.EllipticCurvePublicKey
    kind: EndorsementKey
    product: Product
    tcb: SnpTcb
    chip_id: bytes | None


@lru_cache(maxsize=CACHED_CERTIFICATES)
def read_endorsement(der: bytes) -> Endorsement:
    """Read the certificate of an endorsement key; whether it is a VCEK or a VLEK follows from what it names.

    Args:
        der: From an untrusted peer.

    Raises:
        EvidenceMalformedError: no certificate of AMD's profile, a key that is not P-384, an extension of
            AMD's that is missing, unknown or of another form, or a processor line that is not known here.
    """
    certificate = parse_certificate(der)
    if not isinstance(certificate.key, ec.EllipticCurvePublicKey):
        raise _malformed("a P-384 key")
    extensions = {name: value for name, value in certificate.extensions.items() if name.startswith(AMD_ARC)}
    name = _read_text(_take(extensions, PRODUCT_NAME))
    product = product_of_certificate(name)
    if product is None:
        raise _malformed("Milan, Genoa or Turin", name[:40])
    version = _read_number(_take(extensions, STRUCT_VERSION))
    if version != product.struct_version:
        raise _malformed(f"structVersion {product.struct_version} with {product.name}", str(version))
    components = SPL_OF_COMPONENTS[version].items()
    tcb = SnpTcb(**{part: _read_number(_take(extensions, spl)) for part, spl in components})
    if any(_read_number(_take(extensions, spl)) for spl in SPL_RESERVED[version]):
        raise _malformed("zero where SPLs are reserved")
    chip_id = _take_chip_id(extensions, product) if HARDWARE_ID in extensions else None
    if chip_id is None:
        _read_text(_take(extensions, CSP_ID))
    if extensions:
        raise _malformed("no further extension of AMD's", next(iter(extensions)).hex()[:40])
    return Endorsement(
        key=certificate.key, kind="VCEK" if chip_id else "VLEK", product=product, tcb=tcb, chip_id=chip_id
    )


def _take_chip_id(extensions: dict[bytes, bytes], product: Product) -> bytes:
    """Return the hardware id, which stands without a tag, as long as a report has it."""
    hardware_id = _take(extensions, HARDWARE_ID)
    if len(hardware_id) != product.hardware_id_bytes:
        expected = f"a hwID of {product.hardware_id_bytes} bytes with {product.name}"
        raise _malformed(expected, str(len(hardware_id)))
    return hardware_id.ljust(64, b"\x00")


def _take(extensions: dict[bytes, bytes], name: bytes) -> bytes:
    value = extensions.pop(name, None)
    if value is None:
        raise _malformed(f"the extension {name.hex()}", "none")
    return value


def _read_number(value: bytes) -> int:
    reader = DerReader(value, "endorsement key's certificate")
    number = reader.take_unsigned(1)
    reader.finish()
    return number


def _read_text(value: bytes) -> str:
    reader = DerReader(value, "endorsement key's certificate")
    text = reader.take(IA5_STRING)
    reader.finish()
    if not text.isascii() or not text or not text.decode("ascii").isprintable():
        raise _malformed("printable text in ASCII")
    return text.decode("ascii")


def _malformed(expected: str, got: str = "something else") -> EvidenceMalformedError:
    return EvidenceMalformedError(f"endorsement key's certificate: expected {expected}, got {got}")
