"""How answers of Intel's provisioning services are taken apart: exact types, limits first.

Pure. The inner JSON object of an answer is cut out exactly as it was signed, byte for byte, and never written
anew. Issuer chains travel in header fields, as percent-encoded PEM.

Source: Intel SGX PCS API, version 4 (header fields, bodies); Intel PCCS design guide (the root CRL as
hexadecimal digits).
"""

import re
from urllib.parse import unquote_to_bytes

import msgspec

from s3ml.attestation.collateral.item import (
    CHAIN_LIMIT_CHARACTERS,
    TEXT_LIMIT_CHARACTERS,
    CollateralRejectedError,
    Content,
    Reply,
)
from s3ml.attestation.collateral.revocation import read_crl

TCB_INFO_CHAIN_FIELDS = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
QE_IDENTITY_CHAIN_FIELDS = ("sgx-enclave-identity-issuer-chain",)
PCK_CRL_CHAIN_FIELDS = ("sgx-pck-crl-issuer-chain",)

_SIGNATURE = re.compile(r"\A[0-9A-Fa-f]{128}\Z", re.ASCII)


class _TcbInfoReply(msgspec.Struct, frozen=True, rename="camel"):
    tcb_info: msgspec.Raw
    signature: str


class _QeIdentityReply(msgspec.Struct, frozen=True, rename="camel"):
    enclave_identity: msgspec.Raw
    signature: str


_TCB_INFO = msgspec.json.Decoder(_TcbInfoReply)
_QE_IDENTITY = msgspec.json.Decoder(_QeIdentityReply)


def read_tcb_info(reply: Reply) -> Content:
    """Take the TCB info, its signature and its issuer chain out of an answer.

    Raises:
        CollateralRejectedError: another form, a field that is missing, or a part above its limit.
    """
    try:
        document = _TCB_INFO.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CollateralRejectedError(f"expected tcbInfo and signature: {error}") from error
    return _signed(document.tcb_info, document.signature, _read_chain(reply, TCB_INFO_CHAIN_FIELDS))


def read_qe_identity(reply: Reply) -> Content:
    """Take the quoting enclave's identity, its signature and its issuer chain out of an answer.

    Raises:
        CollateralRejectedError: another form, a field that is missing, or a part above its limit.
    """
    try:
        document = _QE_IDENTITY.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CollateralRejectedError(f"expected enclaveIdentity and signature: {error}") from error
    return _signed(
        document.enclave_identity, document.signature, _read_chain(reply, QE_IDENTITY_CHAIN_FIELDS)
    )


def read_pck_crl(reply: Reply) -> Content:
    """Take a PCK revocation list and its issuer chain out of an answer.

    Raises:
        CollateralRejectedError: no list, no chain, or a part above its limit.
    """
    return Content(der=read_crl(reply.body), chain=_read_chain(reply, PCK_CRL_CHAIN_FIELDS))


def read_root_crl(reply: Reply) -> Content:
    """Take the root's revocation list out of an answer.

    Raises:
        CollateralRejectedError: no list, or one above its limit.
    """
    return Content(der=read_crl(reply.body))


def _signed(document: msgspec.Raw, signature: str, chain: str) -> Content:
    if not _SIGNATURE.match(signature):
        raise CollateralRejectedError("expected a signature of 128 hexadecimal digits")
    try:
        text = bytes(document).decode()  # the decoder passes over it, whatever its strings hold
    except UnicodeDecodeError as error:
        raise CollateralRejectedError("expected a JSON object in UTF-8") from error
    if not text.startswith("{") or len(text) > TEXT_LIMIT_CHARACTERS:
        raise CollateralRejectedError(f"expected a JSON object of at most {TEXT_LIMIT_CHARACTERS} characters")
    return Content(text=text, signature=bytes.fromhex(signature), chain=chain)


def _read_chain(reply: Reply, names: tuple[str, ...]) -> str:
    """Return the PEM of the first header field of `names` that is there."""
    value = next((reply.fields[name] for name in names if name in reply.fields), None)
    if value is None:
        raise CollateralRejectedError(f"expected the header field {names[0]}, got none")
    try:
        chain = unquote_to_bytes(value.encode("ascii")).decode("ascii")
    except UnicodeError as error:
        raise CollateralRejectedError(f"{names[0]}: expected percent-encoded PEM") from error
    if len(chain) > CHAIN_LIMIT_CHARACTERS:
        raise CollateralRejectedError(f"{names[0]}: expected at most {CHAIN_LIMIT_CHARACTERS} characters")
    return chain
