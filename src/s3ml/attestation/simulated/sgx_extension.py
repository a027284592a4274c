"""Intel's certificate extension for SGX, which says what a PCK certificate's platform is.

The value is the SEQUENCE itself, in DER. An SVN of 128 or more takes a leading zero octet, since an INTEGER
is signed.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification 1.5, section 1.3.5.
"""

from dataclasses import dataclass

from cryptography import x509

from s3ml.attestation.simulated.der import element, integer, object_id
from s3ml.attestation.verify.amd.der import BOOLEAN, OCTET_STRING, SEQUENCE

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
TCB_COMPONENTS = 16

_ENUMERATED = 0x0A


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformIdentity:
    """What a PCK certificate says of its platform.

    Args:
        ppid: 16 bytes that name the platform.
        cpu_svn: 16 bytes: the security version of each TCB component.
        pce_svn: The security version of the provisioning certification enclave.
        pce_id: 2 bytes.
        fmspc: 6 bytes: family, model, stepping, platform type, custom SKU.
        instance_id: 16 bytes, for platforms of several packages.
    """

    ppid: bytes
    cpu_svn: bytes
    pce_svn: int
    pce_id: bytes
    fmspc: bytes
    instance_id: bytes


def sgx_extension(identity: PlatformIdentity) -> x509.UnrecognizedExtension:
    """Return the extension for `identity`, of the kind that the platform CA issues."""
    components = [_entry(f"2.{n + 1}", integer(identity.cpu_svn[n])) for n in range(TCB_COMPONENTS)]
    components.append(_entry("2.17", integer(identity.pce_svn)))
    components.append(_entry("2.18", element(OCTET_STRING, identity.cpu_svn)))
    configuration = [_entry(f"7.{n}", element(BOOLEAN, b"\x00")) for n in (1, 2, 3)]
    value = element(
        SEQUENCE,
        _entry("1", element(OCTET_STRING, identity.ppid)),
        _entry("2", element(SEQUENCE, *components)),
        _entry("3", element(OCTET_STRING, identity.pce_id)),
        _entry("4", element(OCTET_STRING, identity.fmspc)),
        _entry("5", element(_ENUMERATED, b"\x01")),
        _entry("6", element(OCTET_STRING, identity.instance_id)),
        _entry("7", element(SEQUENCE, *configuration)),
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION_OID), value)


def _entry(suffix: str, value: bytes) -> bytes:
    return element(SEQUENCE, object_id(f"{SGX_EXTENSION_OID}.{suffix}"), value)
