"""What collateral says, for people: item by item, each proved as it is before it is used.

Source: docs/spec/collateral.md.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from s3ml.attestation.collateral.amd import AmdService, Signer, ask_authorities, ask_crl, ask_leaf
from s3ml.attestation.collateral.amd_proof import Authorities, read_authorities_of
from s3ml.attestation.collateral.freshness import Freshness, State, explain_expired, judge
from s3ml.attestation.collateral.intel import IntelPlatform, IntelService, ask_intel
from s3ml.attestation.collateral.item import CollateralRejectedError, Inquiry, Item, prove
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.verify.amd.certificate import parse_certificate
from s3ml.attestation.verify.amd.product import PRODUCTS
from s3ml.attestation.verify.certificates import ChainReader
from s3ml.attestation.verify.intel.root import INTEL_ROOT_DER

_OWNER = r"\A(?P<owner>intel|amd|simulated-[0-9a-f]{16})"
_INTEL = re.compile(
    _OWNER + r"-(?:(?P<technology>sgx|tdx)-(?:tcb-info-(?P<fmspc>[0-9a-f]{12})|qe-identity)"
    r"-(?P<update>standard|early)|pck-crl-(?P<authority>platform|processor)|root-crl)\Z"
)
_AMD = re.compile(
    _OWNER + r"-(?P<key>vcek|vlek)-(?P<product>milan|genoa|turin)"
    r"-(?:(?P<above>authorities|crl)|(?P<chip>cert|[0-9a-f]{16}|[0-9a-f]{128})-(?P<tcb>[0-9a-f]{16}))\Z"
)
_KEYS: dict[str, EndorsementKey] = {"vcek": "VCEK", "vlek": "VLEK"}
_CHIP_ID_BYTES = 64
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What one item says.

    Args:
        name: The item's.
        what: The same in words.
        issuer: Who signed it, as it claims: common names.
        source: Where it came from.
        confirmed_at: When its source last said that it is current.
        problem: Why it is not to be used; None where it is.
        issued_at: When it was issued; None where it is not what the vendor signed, as with all that follow.
        valid_until: Its next update, or its certificates' end.
        age_s: Since it was issued, in seconds.
        evaluation_data_number: Of TCB info and QE identity; 0 for the rest.
        revoked: How many certificates a revocation list holds.
    """

    name: str
    what: str
    issuer: str
    source: str
    confirmed_at: datetime
    problem: str | None
    issued_at: datetime | None = None
    valid_until: datetime | None = None
    age_s: float | None = None
    evaluation_data_number: int | None = None
    revoked: int | None = None

    @property
    def is_revocation_list(self) -> bool:
        """Whether this is a list, which may be empty."""
        return self.name.endswith("crl") or "-pck-crl-" in self.name


def inspect(
    items: Iterable[Item], *, root: bytes | None, freshness: Freshness, now: datetime
) -> tuple[ItemFacts, ...]:
    """Say what each item says, and whether it may be used at `now` (aware UTC).

    Args:
        items: Trusted in nothing.
        root: A simulation root, DER; None for the vendors' pinned roots.
        freshness: The hard limits.
        now: Aware UTC.
    """
    named = {item.name: item for item in items}
    return tuple(_inspect(item, named, root, freshness, now) for item in named.values())


def _inspect(
    item: Item, named: Mapping[str, Item], root: bytes | None, freshness: Freshness, now: datetime
) -> ItemFacts:
    unproven = ItemFacts(
        name=item.name,
        what=item.name,
        issuer=_issuer(item, named),
        source=item.source,
        confirmed_at=item.confirmed_at,
        problem=None,
    )
    try:
        inquiry = _inquiry_of(item.name, named, root, freshness)
        proven = prove(inquiry, item, now)
    except (CollateralRejectedError, EvidenceMalformedError) as error:
        return replace(unproven, problem=str(error))
    proof = proven.proof
    is_expired = judge(proven, inquiry, now) is State.EXPIRED
    return replace(
        unproven,
        what=inquiry.what,
        problem=explain_expired(proven, inquiry, now) if is_expired else None,
        issued_at=proof.issued_at,
        valid_until=proof.valid_until,
        age_s=(now - proof.issued_at).total_seconds(),
        evaluation_data_number=proof.evaluation_data_number,
        revoked=len(proof.revoked),
    )


def _inquiry_of(name: str, named: Mapping[str, Item], root: bytes | None, freshness: Freshness) -> Inquiry:
    """Return the inquiry whose answer has `name`, by the names alone."""
    for inquiry in (*_intel_inquiries(name, root, freshness), *_amd_inquiries(name, named, root, freshness)):
        if inquiry.name == name:
            return inquiry
    raise CollateralRejectedError("expected an item under the pinned root, got another name or root")


def _intel_inquiries(name: str, root: bytes | None, freshness: Freshness) -> tuple[Inquiry, ...]:
    match = _INTEL.match(name)
    if match is None:
        return ()
    platform = IntelPlatform(
        technology=Technology.TDX if match["technology"] == Technology.TDX else Technology.SGX,
        fmspc=(match["fmspc"] or "").upper(),
        authority="processor" if match["authority"] == "processor" else "platform",
    )
    service = IntelService(
        endpoints=(),
        root=INTEL_ROOT_DER if root is None else root,
        update="early" if match["update"] == "early" else "standard",
    )
    asked = ask_intel(service, platform, freshness)
    return asked.root_crl, asked.pck_crl, asked.tcb_info, asked.qe_identity


def _amd_inquiries(
    name: str, named: Mapping[str, Item], root: bytes | None, freshness: Freshness
) -> tuple[Inquiry, ...]:
    """Return what is asked about a processor line; all but the authorities need those at hand."""
    match = _AMD.match(name)
    if match is None:
        return ()
    service = AmdService(endpoints=(), root=root)
    key, product = _KEYS[match["key"]], PRODUCTS[match["product"].capitalize()]
    above = ask_authorities(service, key, product)
    if name == above.name:
        return (above,)
    authorities = _above(name, named)
    if match["above"]:
        return (ask_crl(service, key, product, authorities=authorities, freshness=freshness),)
    is_chips_own = match["chip"] != "cert"
    chip_id = bytes.fromhex(match["chip"]).ljust(_CHIP_ID_BYTES, b"\x00") if is_chips_own else None
    signer = Signer(key=key, chip_id=chip_id, tcb=bytes.fromhex(match["tcb"]))
    return (ask_leaf(service, product, signer, authorities=authorities),)


def _issuer(item: Item, named: Mapping[str, Item]) -> str:
    """Return who signed an item, as it claims; for authorities, the first of them."""
    try:
        if item.chain:
            return ChainReader().read(item.chain, what="chain").certificates[0].role
        if item.name.endswith("crl"):
            names = x509.load_der_x509_crl(item.der).issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
            return ", ".join(str(name.value) for name in names)
        issuer = _above(item.name, named).issuer
        return issuer.common_name if parse_certificate(item.der).issuer == issuer.subject else UNKNOWN
    except Exception:  # noqa: BLE001 - what cannot be read has no issuer, and its problem is told beside
        return UNKNOWN


def _above(name: str, named: Mapping[str, Item]) -> Authorities:
    """Return the authorities beside an item of AMD's."""
    match = _AMD.match(name)
    above = f"{match['owner']}-{match['key']}-{match['product']}-authorities" if match else "authorities"
    if above not in named:
        raise CollateralRejectedError(f"expected {above} beside it, got none")
    return read_authorities_of(named[above])
