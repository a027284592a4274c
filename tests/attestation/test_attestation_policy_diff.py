"""What a change of a policy widens and narrows."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import Alternative, AppraisalPolicy, SnpTcb, Tee, is_narrower_or_equal
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.diff import Change, Verdict, diff_policies
from tests.attestation.policy_world import CODES, LONG_CODES, ROOTS, accepts, edges, policies

SGX = Alternative(tee=Tee.SGX, measurements=CODES[:1], min_tcb_evaluation_data_number=5)
SIGNED = Alternative(tee=Tee.SGX, signer=CODES[0], product_id=1, min_svn=2, min_tcb_evaluation_data_number=5)
TDX = Alternative(tee=Tee.TDX, measurements=LONG_CODES[:1])
SIMULATED = Alternative(tee=Tee.SIMULATED, root=ROOTS[0], measurements=CODES[:1])


def policy_of(*alternatives: Alternative) -> AppraisalPolicy:
    return AppraisalPolicy(accept=alternatives)


def changed(alternative: Alternative, **changes: Any) -> Alternative:
    return msgspec.structs.replace(alternative, **changes)


class TestVerdict:
    """Identical, narrower, wider, both, or nothing in common."""

    @pytest.mark.parametrize(
        ("old", "new", "verdict"),
        [
            (policy_of(SGX), policy_of(SGX), Verdict.IDENTICAL),
            (policy_of(SGX, TDX), policy_of(TDX, SGX), Verdict.IDENTICAL),
            (policy_of(SGX), policy_of(changed(SGX, max_collateral_age_s=60)), Verdict.NARROWER),
            (policy_of(SGX, TDX), policy_of(SGX), Verdict.NARROWER),
            (policy_of(SGX), policy_of(changed(SGX, measurements=CODES[:2])), Verdict.WIDER),
            (policy_of(SGX), policy_of(SGX, TDX), Verdict.WIDER),
            (
                policy_of(SGX),
                policy_of(changed(SGX, measurements=CODES[:2], max_collateral_age_s=60)),
                Verdict.BOTH,
            ),
            (policy_of(SGX), policy_of(SIGNED), Verdict.BOTH),
            (policy_of(SGX), policy_of(changed(SGX, measurements=CODES[1:])), Verdict.INCOMPARABLE),
            (policy_of(SIGNED), policy_of(changed(SIGNED, product_id=2)), Verdict.INCOMPARABLE),
            (policy_of(SGX), policy_of(TDX), Verdict.INCOMPARABLE),
            (policy_of(SIMULATED), policy_of(changed(SIMULATED, root=ROOTS[1])), Verdict.INCOMPARABLE),
        ],
    )
    def test_it_is_computed(self, old: AppraisalPolicy, new: AppraisalPolicy, verdict: Verdict) -> None:
        diff = diff_policies(old, new)
        assert diff.verdict is verdict
        assert verdict.is_wider == bool(diff.widens)
        assert (verdict in (Verdict.IDENTICAL, Verdict.WIDER)) == (not diff.narrows)

    def test_an_alternative_that_accepts_nothing_has_nothing_in_common(self) -> None:
        snp = Alternative(tee=Tee.SEV_SNP, measurements=LONG_CODES[:1], products=("Milan",))
        never = changed(snp, min_tcb=SnpTcb(fmc=1))
        assert diff_policies(policy_of(never, SGX), policy_of(snp, TDX)).verdict is Verdict.INCOMPARABLE

    @settings(deadline=None, max_examples=40)
    @given(data=st.data(), technology=st.sampled_from([Technology.SGX, Technology.TDX]))
    def test_it_is_what_the_verifier_decides(self, data: st.DataObject, technology: Technology) -> None:
        old, new = data.draw(policies(technology)), data.draw(policies(technology))
        diff = diff_policies(old, new)
        is_wider = not all(accepts(old, part, edge) for part in new.accept for edge in edges(part))
        is_narrower = not all(accepts(new, part, edge) for part in old.accept for edge in edges(part))
        assert (bool(diff.widens), bool(diff.narrows)) == (is_wider, is_narrower)
        assert diff_policies(new, old).verdict.is_wider == is_narrower


class TestChanges:
    """Each alternative is matched with the one closest to it; what widens comes first."""

    def test_the_closest_is_matched(self) -> None:
        other = changed(SGX, measurements=CODES[1:2])
        diff = diff_policies(policy_of(SGX, other), policy_of(changed(other, max_collateral_age_s=60), SGX))
        assert diff.changes == (
            Change(
                old=2,
                new=1,
                widens=(),
                narrows=("no longer accepts collateral 2592000 s old: now at most 60 s is allowed",),
            ),
            Change(old=1, new=2, widens=(), narrows=()),
        )

    def test_what_widens_comes_first(self) -> None:
        new = policy_of(
            changed(SGX, min_tcb_evaluation_data_number=6), changed(TDX, tcb_statuses=("OutOfDate",))
        )
        diff = diff_policies(policy_of(SGX, TDX), new)
        assert [(change.new, change.widens) for change in diff.changes] == [
            (2, ("tolerates TCB status OutOfDate",)),
            (1, ()),
        ]
        assert diff.changes[0].narrows == ("no longer tolerates TCB status UpToDate",)
        assert diff.widens == ("tolerates TCB status OutOfDate",)
        assert diff.narrows == (
            "no longer accepts tcbEvaluationDataNumber 5: now at least 6 is asked",
            "no longer tolerates TCB status UpToDate",
        )

    def test_added_and_removed(self) -> None:
        diff = diff_policies(policy_of(SGX), policy_of(TDX))
        assert diff.changes == (
            Change(old=None, new=1, widens=("accepts tee tdx, where sgx is asked",), narrows=()),
            Change(old=1, new=None, widens=(), narrows=("no longer accepts tee sgx: now tdx is asked",)),
        )

    def test_another_root_is_another_alternative(self) -> None:
        diff = diff_policies(policy_of(SIMULATED), policy_of(changed(SIMULATED, root=ROOTS[1])))
        assert [(change.old, change.new) for change in diff.changes] == [(None, 1), (1, None)]

    def test_an_added_alternative_within_an_old_one_widens_nothing(self) -> None:
        diff = diff_policies(policy_of(SGX), policy_of(SGX, changed(SGX, max_collateral_age_s=60)))
        assert diff.verdict is Verdict.IDENTICAL
        assert diff.changes[1] == Change(old=None, new=2, widens=(), narrows=())

    def test_a_note_is_no_widening(self) -> None:
        diff = diff_policies(policy_of(SGX), policy_of(changed(SGX, warn_collateral_age_s=60)))
        assert diff.verdict is Verdict.IDENTICAL
        assert diff.changes[0].note == "warn_collateral_age_s is 60, was None"

    @settings(deadline=None, max_examples=40)
    @given(data=st.data(), technology=st.sampled_from(list(Technology)))
    def test_every_alternative_occurs_once(self, data: st.DataObject, technology: Technology) -> None:
        old, new = data.draw(policies(technology)), data.draw(policies(technology))
        changes = diff_policies(old, new).changes
        assert sorted(c.old for c in changes if c.old) == list(range(1, len(old.accept) + 1))
        assert sorted(c.new for c in changes if c.new) == list(range(1, len(new.accept) + 1))

    @settings(deadline=None, max_examples=40)
    @given(data=st.data(), technology=st.sampled_from(list(Technology)))
    def test_it_widens_where_the_order_says_so(self, data: st.DataObject, technology: Technology) -> None:
        old, new = data.draw(policies(technology)), data.draw(policies(technology))
        assert diff_policies(old, new).verdict.is_wider is not is_narrower_or_equal(new, old)
