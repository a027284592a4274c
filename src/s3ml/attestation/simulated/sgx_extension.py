"""Intel's certificate extension for SGX, which says what a PCK certificate's platform is.

The value is the SEQUENCE itself, in DER. An SVN of 128 or more takes a leading zero octet, since an INTEGER
is signed.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification 1.5, section 1.3.5.
"""

from dataclasses import dataclass

from cryptography import x509

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
TCB_COMPONENTS = 16

_INTEGER, _OCTETS, _OBJECT_ID, _ENUMERATED, _SEQUENCE, _BOOLEAN = 0x02, 0x04, 0x06, 0x0A, 0x30, 0x01


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
    components = [_entry(f"2.{n + 1}", _integer(identity.cpu_svn[n])) for n in range(TCB_COMPONENTS)]
    components.append(_entry("2.17", _integer(identity.pce_svn)))
    components.append(_entry("2.18", _der(_OCTETS, identity.cpu_svn)))
    configuration = [_entry(f"7.{n}", _der(_BOOLEAN, b"\x00")) for n in (1, 2, 3)]
    value = _der(
        _SEQUENCE,
        _entry("1", _der(_OCTETS, identity.ppid)),
        _entry("2", _der(_SEQUENCE, *components)),
        _entry("3", _der(_OCTETS, identity.pce_id)),
        _entry("4", _der(_OCTETS, identity.fmspc)),
        _entry("5", _der(_ENUMERATED, b"\x01")),
        _entry("6", _der(_OCTETS, identity.instance_id)),
        _entry("7", _der(_SEQUENCE, *configuration)),
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION_OID), value)


def _entry(suffix: str, value: bytes) -> bytes:
    return _der(_SEQUENCE, _object_id(f"{SGX_EXTENSION_OID}.{suffix}"), value)


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _object_id(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return _der(_OBJECT_ID, _base128(40 * first + second), *map(_base128, rest))


def _base128(arc: int) -> bytes:
    """Encode one arc: seven bits an octet, the high bit on all but the last."""
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | arc & 0x7F)
    return bytes(reversed(octets))


def _der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - DER's short form ends here
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
