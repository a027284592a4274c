"""The order of policies, held against what the verifier decides."""

from datetime import timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import Alternative, AppraisalPolicy, Tee, is_narrower_or_equal, widenings
from s3ml.attestation.policy import TcbStatus
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify.appraisal import appraise
from s3ml.attestation.verify.dcap import Examination
from s3ml.attestation.verify.sgx_collateral import CollateralFacts
from s3ml.attestation.verify.sgx_quote import SgxQuote, SgxReport
from tests.attestation.attestation_world import CREATED, NOW, World

UNHURRIED = settings(deadline=None)
CODES = tuple(letter * 64 for letter in "abc")
ADVISORIES = ("INTEL-SA-00001", "INTEL-SA-00002")
ROOTS = tuple(SimulatedPKI.create(CREATED).root_der for _ in range(2))
STATUSES: tuple[TcbStatus, ...] = get_args(TcbStatus)[:3]
SMALL = st.integers(0, 2)

BASE = Alternative(tee=Tee.SGX, measurements=(CODES[0],), min_tcb_evaluation_data_number=5)


def some(values: tuple[Any, ...], least: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=3, unique=True).map(tuple)


@st.composite
def alternatives(draw: st.DrawFn) -> Alternative:
    root = draw(st.sampled_from((None, *ROOTS)))
    identity: dict[str, Any]
    if draw(st.booleans()):
        identity = {"measurements": draw(some(CODES, 1))}
    else:
        identity = {
            "signer": draw(st.sampled_from(CODES[:2])),
            "product_id": draw(st.integers(0, 1)),
            "min_svn": draw(SMALL),
        }
    return Alternative(
        tee=Tee.SIMULATED if root else Tee.SGX,
        root=root,
        tcb_statuses=draw(some(STATUSES, 1)),
        advisories=draw(some(ADVISORIES, 0)),
        min_tcb_evaluation_data_number=draw(SMALL),
        max_collateral_age_s=draw(st.integers(1, 3)),
        min_qe_svn=draw(SMALL),
        min_pce_svn=draw(SMALL),
        **identity,
    )


def policies() -> st.SearchStrategy[AppraisalPolicy]:
    return st.lists(alternatives(), min_size=1, max_size=3).map(
        lambda accept: AppraisalPolicy(accept=tuple(accept))
    )


def proven(part: Alternative, status: str, measurement: str) -> Examination:
    """Return what is at the very edge of `part`: the worst that it still accepts."""
    report = SgxReport(
        flags=5,
        measurement=bytes.fromhex(measurement),
        signer=bytes.fromhex(part.signer or "f" * 64),
        product_id=part.product_id or 0,
        svn=part.min_svn or 0,
        report_data=bytes(64),
    )
    facts = CollateralFacts(
        pce_id="0000",
        evaluation_data_number=part.min_tcb_evaluation_data_number,
        issued_at=NOW - timedelta(seconds=part.max_collateral_age_s),
        mismatches=(),
    )
    quote = SgxQuote(
        qe_svn=part.min_qe_svn, pce_svn=part.min_pce_svn, enclave=report, quoting_enclave=report, chain=""
    )
    return Examination(quote=quote, facts=facts, tcb_status=status, advisories=part.advisories, mismatches=())


def accepts(policy: AppraisalPolicy, part: Alternative, examination: Examination) -> bool:
    """Appraise as the verifier does: against the alternatives of the same TEE and root."""
    peers = [other for other in policy.accept if (other.tee, other.root) == (part.tee, part.root)]
    return bool(peers) and not appraise(examination, peers, now=NOW)


def edges(policy: AppraisalPolicy) -> list[tuple[Alternative, Examination]]:
    """Return every extreme of a policy; whatever else it accepts is better in each respect."""
    return [
        (part, proven(part, status, measurement))
        for part in policy.accept
        for status in part.tcb_statuses
        for measurement in part.measurements or ("0" * 64,)
    ]


class TestOrder:
    """A ⊆ B says exactly what the verifier does."""

    @UNHURRIED
    @given(candidate=policies(), bound=policies())
    def test_it_is_what_the_verifier_decides(
        self, candidate: AppraisalPolicy, bound: AppraisalPolicy
    ) -> None:
        """Whatever the narrower accepts the wider accepts; where it is not narrower, something is not."""
        is_contained = all(accepts(bound, part, examination) for part, examination in edges(candidate))
        assert is_narrower_or_equal(candidate, bound) == is_contained

    @UNHURRIED
    @given(policy=policies(), data=st.data())
    def test_tightening_narrows(self, policy: AppraisalPolicy, data: st.DataObject) -> None:
        """A policy made of tightened parts of another is within it, and what it accepts is accepted."""
        part = data.draw(st.sampled_from(policy.accept))
        identity: dict[str, Any] = {"min_svn": (part.min_svn or 0) + data.draw(SMALL)}
        if part.measurements:
            identity = {"measurements": (data.draw(st.sampled_from(part.measurements)),)}
        tightened = msgspec.structs.replace(
            part,
            tcb_statuses=(data.draw(st.sampled_from(part.tcb_statuses)),),
            advisories=part.advisories[data.draw(SMALL) :],
            min_tcb_evaluation_data_number=part.min_tcb_evaluation_data_number + data.draw(SMALL),
            max_collateral_age_s=max(1, part.max_collateral_age_s - data.draw(SMALL)),
            min_qe_svn=part.min_qe_svn + data.draw(SMALL),
            min_pce_svn=part.min_pce_svn + data.draw(SMALL),
            **identity,
        )
        candidate = AppraisalPolicy(accept=(tightened,))
        assert is_narrower_or_equal(candidate, policy)
        assert all(accepts(policy, edge, examination) for edge, examination in edges(candidate))

    @UNHURRIED
    @given(policy=policies())
    def test_the_edges_are_accepted(self, policy: AppraisalPolicy) -> None:
        assert all(accepts(policy, part, examination) for part, examination in edges(policy))

    @UNHURRIED
    @given(policy=policies())
    def test_reflexive(self, policy: AppraisalPolicy) -> None:
        assert widenings(policy, policy) == ()

    @UNHURRIED
    @given(first=policies(), second=policies())
    def test_a_union_is_wider_than_its_parts(self, first: AppraisalPolicy, second: AppraisalPolicy) -> None:
        union = AppraisalPolicy(accept=(*first.accept, *second.accept))
        assert is_narrower_or_equal(first, union)
        assert is_narrower_or_equal(second, union)

    @UNHURRIED
    @given(a=policies(), b=policies(), c=policies())
    def test_transitive(self, a: AppraisalPolicy, b: AppraisalPolicy, c: AppraisalPolicy) -> None:
        if is_narrower_or_equal(a, b) and is_narrower_or_equal(b, c):
            assert is_narrower_or_equal(a, c)

    def test_measurements_may_be_spread_over_alternatives(self) -> None:
        both = AppraisalPolicy(accept=(msgspec.structs.replace(BASE, measurements=CODES[:2]),))
        spread = AppraisalPolicy(
            accept=tuple(msgspec.structs.replace(BASE, measurements=(code,)) for code in CODES[:2])
        )
        assert is_narrower_or_equal(both, spread)
        assert is_narrower_or_equal(spread, both)


class TestWidenings:
    """Each widening is explained in plain words."""

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"measurements": CODES[:2]}, f"accepts measurement {CODES[1]}"),
            ({"tcb_statuses": ("UpToDate", "OutOfDate")}, "tolerates TCB status OutOfDate"),
            ({"advisories": ADVISORIES[:1]}, "tolerates advisory INTEL-SA-00001"),
            (
                {"min_tcb_evaluation_data_number": 4},
                "accepts tcbEvaluationDataNumber 4, where at least 5 is asked",
            ),
            (
                {"max_collateral_age_s": 2_592_001},
                "accepts collateral 2592001 s old, where at most 2592000 s is allowed",
            ),
            (
                {"measurements": None, "signer": CODES[2], "product_id": 1, "min_svn": 1},
                f"accepts product 1 of signer {CODES[2]}",
            ),
            ({"tee": Tee.SIMULATED, "root": ROOTS[0]}, "accepts tee simulated, which is not accepted"),
        ],
        ids=str,
    )
    def test_a_widening_is_named(self, changes: dict[str, Any], reason: str) -> None:
        candidate = AppraisalPolicy(accept=(msgspec.structs.replace(BASE, **changes),))
        assert widenings(candidate, AppraisalPolicy(accept=(BASE,))) == (reason,)

    def test_lower_minimums_of_the_quoting_enclaves(self) -> None:
        bound = msgspec.structs.replace(BASE, min_qe_svn=3, min_pce_svn=4)
        assert widenings(AppraisalPolicy(accept=(BASE,)), AppraisalPolicy(accept=(bound,))) == (
            "accepts a quoting enclave of SVN 0, where at least 3 is asked",
            "accepts a certification enclave of SVN 0, where at least 4 is asked",
        )

    def test_a_lower_version_of_a_product(self) -> None:
        signed = Alternative(tee=Tee.SGX, signer=CODES[0], product_id=1, min_svn=3)
        older = msgspec.structs.replace(signed, min_svn=2)
        assert widenings(AppraisalPolicy(accept=(older,)), AppraisalPolicy(accept=(signed,))) == (
            "accepts SVN 2 of the signer's product, where at least 3 is asked",
        )

    def test_a_measurement_is_not_within_a_signer(self) -> None:
        signed = Alternative(tee=Tee.SGX, signer=CODES[2], product_id=1, min_svn=3)
        measured = Alternative(tee=Tee.SGX, measurements=CODES[:1])
        assert widenings(AppraisalPolicy(accept=(measured,)), AppraisalPolicy(accept=(signed,))) == (
            f"accepts measurement {CODES[0]}, where signer {CODES[2]} is asked",
        )

    def test_another_simulation_root(self, world: World) -> None:
        other = AppraisalPolicy(accept=(msgspec.structs.replace(world.policy.accept[0], root=ROOTS[0]),))
        assert widenings(other, world.policy) == ("trusts another simulation root",)

    def test_all_reasons_come_at_once_and_once(self) -> None:
        candidate = msgspec.structs.replace(
            BASE, measurements=CODES, tcb_statuses=("UpToDate", "OutOfDate"), advisories=ADVISORIES
        )
        assert set(widenings(AppraisalPolicy(accept=(candidate,)), AppraisalPolicy(accept=(BASE,)))) == {
            f"accepts measurement {CODES[1]}",
            f"accepts measurement {CODES[2]}",
            "tolerates TCB status OutOfDate",
            "tolerates advisory INTEL-SA-00001",
            "tolerates advisory INTEL-SA-00002",
        }
