"""What to ask Intel's provisioning services, PCS or PCCS, for a quote of a given platform.

Pure. What is asked follows from the PCK certificate that the quote itself carries.

Source: Intel SGX PCS API, version 4; Intel PCCS design guide; Intel SGX PCK Certificate and Certificate
Revocation List Profile Specification 1.5.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from dcap_qvl import parse_pck_extension_from_pem

from s3ml.attestation.collateral.endpoints import PCCS_PATH, IntelEndpoint
from s3ml.attestation.collateral.freshness import Freshness
from s3ml.attestation.collateral.intel_proof import (
    prove_pck_crl,
    prove_qe_identity,
    prove_root_crl,
    prove_tcb_info,
)
from s3ml.attestation.collateral.intel_reply import (
    read_pck_crl,
    read_qe_identity,
    read_root_crl,
    read_tcb_info,
)
from s3ml.attestation.collateral.item import Inquiry, Target
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import Technology
from s3ml.attestation.verify.certificates import ROLES_PCK_CA, ChainReader, root_of_trust
from s3ml.attestation.verify.intel.root import INTEL_ROOT_DER
from s3ml.attestation.verify.intel.sgx_quote import QUOTE_VERSION, parse_sgx_quote
from s3ml.attestation.verify.intel.tdx_quote import parse_tdx_quote
from s3ml.primitives.errors import ConfigurationError

Authority = Literal["platform", "processor"]
Update = Literal["standard", "early"]
IntelTechnology = Literal[Technology.SGX, Technology.TDX]

_AUTHORITIES: dict[Authority, str] = {"platform": ROLES_PCK_CA[0], "processor": ROLES_PCK_CA[1]}
_DOCUMENT_IDS = {Technology.SGX: ("SGX", "QE"), Technology.TDX: ("TDX", "TD_QE")}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelService:
    """Intel's provisioning service, and what is asked of it.

    Args:
        endpoints: Where it answers; the first that delivers what Intel signed is enough.
        root: The pinned root, DER; Intel's, or a simulated one.
        update: Whether TCB info and QE identity are the ones that count now, or those that will.

    Raises:
        ConfigurationError: no endpoint, or a root that is no certificate.
    """

    endpoints: tuple[IntelEndpoint, ...]
    root: bytes = INTEL_ROOT_DER
    update: Update = "standard"

    def __post_init__(self) -> None:
        if self.update not in {"standard", "early"}:
            raise ConfigurationError(f"collateral: update: expected standard or early, got {self.update!r}")
        try:
            root_of_trust(self.root)
        except ValueError as error:
            raise ConfigurationError("collateral: expected a root certificate, DER") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelPlatform:
    """Which platform a quote is from, as its own certificate claims it.

    Args:
        technology: SGX or TDX.
        fmspc: Family, model, stepping, platform type and custom SKU, 12 upper-case digits.
        authority: Which of the two PCK authorities certified it.
    """

    technology: IntelTechnology
    fmspc: str
    authority: Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelInquiries:
    """The four items that a quote needs."""

    root_crl: Inquiry
    pck_crl: Inquiry
    tcb_info: Inquiry
    qe_identity: Inquiry


def read_platform(quote: bytes) -> IntelPlatform:
    """Read which platform made a quote.

    Args:
        quote: An SGX or TDX quote with its PCK certificate chain; its signatures are not checked.

    Raises:
        EvidenceMalformedError: no such quote, or a chain that does not say which platform it is of.
    """
    is_sgx = int.from_bytes(quote[:2], "little") == QUOTE_VERSION
    certification = (parse_sgx_quote(quote) if is_sgx else parse_tdx_quote(quote)).certification
    chain = ChainReader().read(certification.chain, what="quote's chain")
    issuer = chain.certificates[1].role if len(chain.certificates) > 1 else "none"
    authority = next((kind for kind, role in _AUTHORITIES.items() if issuer.endswith(role)), None)
    if authority is None:
        expected = " or ".join(ROLES_PCK_CA)
        raise EvidenceMalformedError(f"quote's chain: expected {expected} as issuer, got {issuer[:80]!r}")
    leaf = x509.load_der_x509_certificate(chain.certificates[0].der).public_bytes(Encoding.PEM)
    try:
        fmspc = bytes(parse_pck_extension_from_pem(leaf).fmspc)
    except ValueError as error:
        raise EvidenceMalformedError("quote's chain: expected Intel's SGX extension in its leaf") from error
    return IntelPlatform(
        technology=Technology.SGX if is_sgx else Technology.TDX,
        fmspc=fmspc.hex().upper(),
        authority=authority,
    )


def ask_intel(service: IntelService, platform: IntelPlatform, freshness: Freshness) -> IntelInquiries:
    """Return what to ask `service` for a quote of `platform`."""
    technology, fmspc, authority = platform.technology, platform.fmspc, platform.authority
    tcb_info_id, qe_identity_id = _DOCUMENT_IDS[technology]
    certification = PCCS_PATH.replace(Technology.SGX, technology)
    owner, root = _owner(service.root), service.root
    inquire = partial(Inquiry, refresh_after_s=freshness.refresh_after_s, max_age_s=freshness.max_age_s)
    return IntelInquiries(
        root_crl=inquire(
            name=f"{owner}-root-crl",
            what="root CRL",
            targets=tuple(Target(url=one.root_crl_url, fields={}) for one in service.endpoints),
            read=read_root_crl,
            prove=partial(prove_root_crl, root=root),
            max_age_s=None,
        ),
        pck_crl=inquire(
            name=f"{owner}-pck-crl-{authority}",
            what=f"PCK CRL of the {authority} CA",
            targets=_targets(service, f"{PCCS_PATH}/pckcrl?ca={authority}&encoding=der"),
            read=read_pck_crl,
            prove=partial(prove_pck_crl, role=_AUTHORITIES[authority], root=root),
        ),
        tcb_info=inquire(
            name=f"{owner}-{technology}-tcb-info-{fmspc.lower()}-{service.update}",
            what=f"{technology.upper()} TCB info of FMSPC {fmspc}",
            targets=_targets(service, f"{certification}/tcb?fmspc={fmspc}&update={service.update}"),
            read=read_tcb_info,
            prove=partial(prove_tcb_info, id_=tcb_info_id, fmspc=fmspc, root=root),
        ),
        qe_identity=inquire(
            name=f"{owner}-{technology}-qe-identity-{service.update}",
            what=f"{technology.upper()} QE identity",
            targets=_targets(service, f"{certification}/qe/identity?update={service.update}"),
            read=read_qe_identity,
            prove=partial(prove_qe_identity, id_=qe_identity_id, root=root),
        ),
    )


def _owner(root: bytes) -> str:
    """Return the first word of names; what another root signed never gets the name of Intel's."""
    if root == INTEL_ROOT_DER:
        return "intel"
    return f"simulated-{hashlib.sha256(root).hexdigest()[:16]}"


def _targets(service: IntelService, path: str) -> tuple[Target, ...]:
    return tuple(endpoint.target(path) for endpoint in service.endpoints)
