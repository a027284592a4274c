"""Policies for every technology, and what lies at the very edge of each: the worst that it still accepts."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from s3ml.attestation import Alternative, AppraisalPolicy, RuntimeEvent, SnpTcb, Tee
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy import TcbStatus
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify.appraisal import closest
from s3ml.attestation.verify.claims import Claims, IntelTcb, SgxClaims, SnpClaims, TdxClaims
from s3ml.attestation.verify.result import Examination
from tests.attestation.attestation_world import CREATED, NOW

CODES = tuple(letter * 64 for letter in "abc")
LONG_CODES = tuple(letter * 96 for letter in "abc")
OTHER_CODE, OTHER_LONG, OTHER_HOST, OTHER_CHIP, OTHER_ID = "f" * 64, "f" * 96, "f" * 64, "f" * 128, "f" * 32
REGISTERS = ("1" * 96, "2" * 96)
HOST_DATA = ("1" * 64, "2" * 64)
CHIPS = ("1" * 128, "2" * 128)
IDS = ("1" * 32, "2" * 32)
EVENTS = (RuntimeEvent(register=2, digest="e" * 96), RuntimeEvent(register=3, digest="e" * 96))
ADVISORIES = ("INTEL-SA-00001", "INTEL-SA-00002")
ROOTS = tuple(SimulatedPKI.create(CREATED).root_der for _ in range(2))
STATUSES: tuple[TcbStatus, ...] = get_args(TcbStatus)[:3]
PRODUCTS = ("Milan", "Genoa", "Turin")
ENDORSEMENT_KEYS = ("VCEK", "VLEK")
SMALL = st.integers(0, 2)
NO_CODE, NO_LONG_CODE = "0" * 64, "0" * 96


def some(values: tuple[Any, ...], least: int = 1) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=len(values), unique=True).map(tuple)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def sgx(draw: st.DrawFn) -> Alternative:
    root = draw(st.sampled_from((None, *ROOTS)))
    identity: dict[str, Any] = {"measurements": draw(some(CODES))}
    if draw(st.booleans()):
        identity = {"signer": draw(st.sampled_from(CODES[:2])), "product_id": draw(st.integers(0, 1))}
        identity["min_svn"] = draw(SMALL)
    return Alternative(
        tee=Tee.SIMULATED if root else Tee.SGX, root=root, **draw(intel_platforms()), **identity
    )


@st.composite
def tdx(draw: st.DrawFn) -> Alternative:
    registers: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(["rtmr0", "rtmr1", "rtmr2", "rtmr3"]), some(REGISTERS))
    )
    return Alternative(
        tee=Tee.TDX,
        measurements=draw(some(LONG_CODES)),
        events=draw(some(EVENTS, 0)),
        config_ids=draw(maybe(some(REGISTERS))),
        **draw(intel_platforms()),
        **registers,
    )


@st.composite
def intel_platforms(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "tcb_statuses": draw(some(STATUSES)),
        "advisories": draw(some(ADVISORIES, 0)),
        "min_tcb_evaluation_data_number": draw(SMALL),
        "max_collateral_age_s": draw(st.integers(1, 3)),
        "min_qe_svn": draw(SMALL),
        "min_pce_svn": draw(SMALL),
    }


@st.composite
def snp(draw: st.DrawFn) -> Alternative:
    identity: dict[str, Any] = {"measurements": draw(some(LONG_CODES))}
    if draw(st.booleans()):
        identity = {"signer": draw(st.sampled_from(LONG_CODES[:2])), "min_svn": draw(SMALL)}
        identity |= {"family_id": IDS[0], "image_id": draw(st.sampled_from(IDS))}
    return Alternative(
        tee=Tee.SEV_SNP,
        author=draw(maybe(st.sampled_from(LONG_CODES[:2]))),
        host_data=draw(maybe(some(HOST_DATA))),
        products=draw(some(PRODUCTS)),
        endorsement_keys=draw(some(ENDORSEMENT_KEYS)),
        chip_ids=draw(maybe(some(CHIPS))),
        min_tcb=SnpTcb(snp=draw(SMALL), microcode=draw(SMALL), fmc=draw(st.integers(0, 1))),
        max_vmpl=draw(SMALL),
        allow_smt=draw(st.booleans()),
        allow_migration_agent=draw(st.booleans()),
        require_crl=draw(st.booleans()),
        max_collateral_age_s=draw(st.integers(1, 3)),
        **identity,
    )


ALTERNATIVES = {Technology.SGX: sgx(), Technology.TDX: tdx(), Technology.SEV_SNP: snp()}


def policies(technology: Technology) -> st.SearchStrategy[AppraisalPolicy]:
    return st.lists(ALTERNATIVES[technology], min_size=1, max_size=3).map(
        lambda accept: AppraisalPolicy(accept=tuple(accept))
    )


def examined(part: Alternative, claims: Claims, *, age_s: int | None) -> Examination:
    issued_at = None if age_s is None else NOW - timedelta(seconds=age_s)
    return Examination(
        claims=claims,
        report_data=bytes(64),
        mismatches=(),
        doubt=None,
        root_der=part.root or b"",
        platform="",
        issued_at=issued_at,
        signed_at=NOW,
        valid_from=NOW,
        valid_until=NOW,
    )


def edges(part: Alternative) -> Iterator[Examination]:
    """Return every extreme of an alternative; whatever else it accepts is better in each respect."""
    match part.technology:
        case Technology.SGX:
            return _sgx_edges(part)
        case Technology.TDX:
            return _tdx_edges(part)
        case Technology.SEV_SNP:
            return _snp_edges(part)


def accepts(policy: AppraisalPolicy, part: Alternative, examination: Examination) -> bool:
    """Appraise as the verifier does: against the alternatives of the same TEE and root."""
    peers = [
        other
        for other in policy.accept
        if (other.tee, other.technology, other.root) == (part.tee, part.technology, part.root)
    ]
    return bool(peers) and not closest(examination, peers, now=NOW)[1]


def better(examination: Examination, by: int) -> Examination:
    """Return what is better than an edge in every respect that has an order."""
    claims = examination.claims
    match claims:
        case SnpClaims():
            tcb = _better_snp_tcb(claims.tcb, by)
            claims = replace(
                claims, svn=claims.svn + by, tcb=tcb, launch_tcb=tcb, policy=GUEST_POLICY, vmpl=0
            )
        case SgxClaims():
            claims = replace(claims, svn=claims.svn + by, tcb=_better_intel_tcb(claims.tcb, by))
        case TdxClaims():
            events = None if claims.events is None else (*claims.events, *EVENTS[:by])
            claims = replace(claims, events=events, tcb=_better_intel_tcb(claims.tcb, by))
    issued_at = examination.issued_at
    return replace(examination, claims=claims, issued_at=issued_at and issued_at + timedelta(seconds=by))


GUEST_POLICY = 1 << 17
GUEST_POLICY_SMT, GUEST_POLICY_MIGRATION_AGENT = 1 << 16, 1 << 18


def _better_snp_tcb(tcb: SnpTcb, by: int) -> SnpTcb:
    better = {name: getattr(tcb, name) + by for name in ("bootloader", "snp", "microcode")}
    return msgspec.structs.replace(tcb, **better)


def _better_intel_tcb(tcb: IntelTcb, by: int) -> IntelTcb:
    return replace(
        tcb,
        advisories=tcb.advisories[by:],
        evaluation_data_number=tcb.evaluation_data_number + by,
        qe_svn=tcb.qe_svn + by,
        pce_svn=tcb.pce_svn + by,
    )


def _intel_tcb(part: Alternative, status: str) -> IntelTcb:
    return IntelTcb(
        status=status,
        advisories=part.advisories,
        evaluation_data_number=part.min_tcb_evaluation_data_number,
        qe_svn=part.min_qe_svn,
        pce_svn=part.min_pce_svn,
    )


def _sgx_edges(part: Alternative) -> Iterator[Examination]:
    for measurement, status in itertools.product(part.measurements or (NO_CODE,), part.tcb_statuses):
        claims = SgxClaims(
            measurement=measurement,
            signer=part.signer or OTHER_CODE,
            product_id=part.product_id or 0,
            svn=part.min_svn or 0,
            flags=5,
            tcb=_intel_tcb(part, status),
        )
        yield examined(part, claims, age_s=part.max_collateral_age_s)


def _tdx_edges(part: Alternative) -> Iterator[Examination]:
    named = (part.rtmr0, part.rtmr1, part.rtmr2, part.rtmr3)
    has_log = any(named) or bool(part.events)
    for measurement, status, config_id, *registers in itertools.product(
        part.measurements or (),
        part.tcb_statuses,
        part.config_ids or (OTHER_LONG,),
        *(n or (OTHER_LONG,) for n in named),
    ):
        first, second, third, fourth = registers
        claims = TdxClaims(
            measurement=measurement,
            registers=(first, second, third, fourth),
            replayed=(first, second, third, fourth) if has_log else None,
            events=part.events if has_log else None,
            config_id=config_id,
            owner=NO_LONG_CODE,
            owner_config=NO_LONG_CODE,
            flags=1 << 28,
            tcb=_intel_tcb(part, status),
        )
        yield examined(part, claims, age_s=part.max_collateral_age_s)


def _snp_edges(part: Alternative) -> Iterator[Examination]:
    policy = GUEST_POLICY | (GUEST_POLICY_SMT if part.allow_smt else 0)
    policy |= GUEST_POLICY_MIGRATION_AGENT if part.allow_migration_agent else 0
    for measurement, product, key, chip_id, host_data, has_crl in itertools.product(
        part.measurements or (NO_LONG_CODE,),
        part.products,
        part.endorsement_keys,
        part.chip_ids or (OTHER_CHIP,),
        part.host_data or (OTHER_HOST,),
        (True,) if part.require_crl else (True, False),
    ):
        if part.min_tcb.fmc and product != "Turin":
            continue  # earlier processors have no FMC, so their version of it is 0
        claims = SnpClaims(
            measurement=measurement,
            signer=part.signer or OTHER_LONG,
            author=part.author or OTHER_LONG,
            family_id=part.family_id or OTHER_ID,
            image_id=part.image_id or OTHER_ID,
            svn=part.min_svn or 0,
            host_data=host_data,
            policy=policy,
            vmpl=part.max_vmpl,
            product=product,
            endorsement_key=key,
            chip_id=chip_id,
            tcb=part.min_tcb,
            launch_tcb=SnpTcb() if part.allow_migration_agent else part.min_tcb,
            has_crl=has_crl,
        )
        yield examined(part, claims, age_s=part.max_collateral_age_s if has_crl else None)
