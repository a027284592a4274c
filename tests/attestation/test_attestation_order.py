"""The order of policies, held against what the verifier decides."""

import hashlib
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    RuntimeEvent,
    SnpTcb,
    Tee,
    is_narrower_or_equal,
    widenings,
)
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.fields import FIELDS
from s3ml.attestation.policy.order import ENTANGLED
from s3ml.attestation.policy.parts import is_covered, smallest
from tests.attestation.attestation_world import World
from tests.attestation.policy_world import (
    ADVISORIES,
    ALTERNATIVES,
    CHIPS,
    CODES,
    EVENTS,
    HOST_DATA,
    IDS,
    LONG_CODES,
    REGISTERS,
    ROOTS,
    accepts,
    better,
    edges,
    policies,
)

EXAMPLES = settings(deadline=None, max_examples=30)
TECHNOLOGIES = pytest.mark.parametrize("technology", list(Technology))
BASE = Alternative(tee=Tee.SGX, measurements=(CODES[0],), min_tcb_evaluation_data_number=5)
TDX = Alternative(tee=Tee.TDX, measurements=LONG_CODES[:1], rtmr1=REGISTERS[:1], events=EVENTS[:1])
SNP = Alternative(
    tee=Tee.SEV_SNP, measurements=LONG_CODES[:1], min_tcb=SnpTcb(microcode=5), products=("Milan",)
)


def policy_of(*alternatives: Alternative) -> AppraisalPolicy:
    return AppraisalPolicy(accept=alternatives)


def changed(alternative: Alternative, **changes: Any) -> Alternative:
    return msgspec.structs.replace(alternative, **changes)


def is_split(alternative: Alternative, name: str) -> bool:
    values = getattr(alternative, name)
    is_known = alternative.technology in FIELDS[name].technologies
    return is_known and values is not None and len(values) > 1


@TECHNOLOGIES
class TestOrder:
    """A ⊆ B says exactly what the verifier does."""

    @EXAMPLES
    @given(data=st.data())
    def test_it_is_what_the_verifier_decides(self, technology: Technology, data: st.DataObject) -> None:
        """Whatever the narrower accepts the wider accepts; where it is not narrower, something is not."""
        candidate, bound = data.draw(policies(technology)), data.draw(policies(technology))
        is_contained = all(accepts(bound, part, edge) for part in candidate.accept for edge in edges(part))
        assert is_narrower_or_equal(candidate, bound) == is_contained

    @EXAMPLES
    @given(data=st.data())
    def test_what_is_split_over_alternatives_is_put_together(
        self, technology: Technology, data: st.DataObject
    ) -> None:
        """Split each choice of a policy between two alternatives: together they accept what it accepts."""
        whole = data.draw(ALTERNATIVES[technology])
        parts = [whole]
        for name in [name for name in SPLIT if is_split(whole, name)][:3]:
            values = getattr(whole, name)
            parts = [changed(part, **{name: half}) for part in parts for half in (values[:1], values[1:])]
        assert is_narrower_or_equal(policy_of(whole), policy_of(*parts))
        assert is_narrower_or_equal(policy_of(*parts), policy_of(whole))
        if len(parts) > 1:
            dropped = data.draw(st.sampled_from(parts))
            rest = policy_of(*(part for part in parts if part is not dropped))
            is_contained = all(accepts(rest, whole, edge) for edge in edges(whole))
            assert is_narrower_or_equal(policy_of(whole), rest) == is_contained

    @EXAMPLES
    @given(data=st.data())
    def test_whatever_the_narrower_accepts_the_wider_accepts(
        self, technology: Technology, data: st.DataObject
    ) -> None:
        """A random change of a policy: where it is narrower, so is all that it accepts, edge or not."""
        bound = data.draw(policies(technology))
        donor = data.draw(ALTERNATIVES[technology])
        names = data.draw(st.sets(st.sampled_from(sorted(FREE)), max_size=3))
        part = data.draw(st.sampled_from(bound.accept))
        candidate = changed(part, **{name: getattr(donor, name) for name in names})
        by = data.draw(st.integers(0, 2))
        found = [accepts(bound, candidate, better(edge, by)) for edge in edges(candidate)]
        if is_narrower_or_equal(policy_of(candidate), bound):
            assert all(found)

    @EXAMPLES
    @given(data=st.data())
    def test_the_edges_are_accepted(self, technology: Technology, data: st.DataObject) -> None:
        policy = data.draw(policies(technology))
        assert all(accepts(policy, part, edge) for part in policy.accept for edge in edges(part))

    @EXAMPLES
    @given(data=st.data())
    def test_reflexive(self, technology: Technology, data: st.DataObject) -> None:
        policy = data.draw(policies(technology))
        reordered = policy_of(*(changed(one, warn_collateral_age_s=1) for one in reversed(policy.accept)))
        assert widenings(policy, policy) == ()
        assert widenings(policy, reordered) == ()

    @EXAMPLES
    @given(data=st.data())
    def test_a_union_is_wider_than_its_parts(self, technology: Technology, data: st.DataObject) -> None:
        first, second = data.draw(policies(technology)), data.draw(policies(technology))
        union = policy_of(*first.accept, *second.accept)
        assert is_narrower_or_equal(first, union)
        assert is_narrower_or_equal(second, union)

    @EXAMPLES
    @given(data=st.data())
    def test_transitive(self, technology: Technology, data: st.DataObject) -> None:
        a, b, c = (data.draw(policies(technology)) for _ in range(3))
        if is_narrower_or_equal(a, b) and is_narrower_or_equal(b, c):
            assert is_narrower_or_equal(a, c)

    @EXAMPLES
    @given(data=st.data())
    def test_another_technology_is_never_narrower(self, technology: Technology, data: st.DataObject) -> None:
        others = [other for other in Technology if other is not technology]
        other = data.draw(policies(data.draw(st.sampled_from(others))))
        policy = data.draw(policies(technology))
        accepting = any(True for part in policy.accept for _ in edges(part))
        assert is_narrower_or_equal(policy, other) is not accepting


SPLIT = (
    "measurements",
    "tcb_statuses",
    "rtmr0",
    "rtmr1",
    "rtmr3",
    "config_ids",
    "host_data",
    "products",
    "chip_ids",
)
FIXED = {
    "tee",
    "simulates",
    "root",
    "measurements",
    "signer",
    "product_id",
    "family_id",
    "image_id",
    "min_svn",
}
FREE = frozenset(Alternative.__struct_fields__) - FIXED


class TestSpread:
    """A part may lie within another alternative than the next part."""

    def test_measurements(self) -> None:
        both = policy_of(changed(BASE, measurements=CODES[:2]))
        spread = policy_of(*(changed(BASE, measurements=(code,)) for code in CODES[:2]))
        assert is_narrower_or_equal(both, spread)
        assert is_narrower_or_equal(spread, both)

    def test_revocation_lists(self) -> None:
        """Without a list there is no age: an alternative for each case contains one for both."""
        either = changed(SNP, require_crl=False, max_collateral_age_s=900)
        without = changed(either, max_collateral_age_s=1)
        with_list = changed(either, require_crl=True)
        assert is_narrower_or_equal(policy_of(either), policy_of(without, with_list))
        assert widenings(policy_of(either), policy_of(with_list)) == ("accepts a missing revocation list",)
        assert widenings(policy_of(either), policy_of(without)) == (
            "accepts collateral 900 s old, where at most 1 s is allowed",
        )

    def test_a_line_without_fmc_never_reaches_a_floor_for_it(self) -> None:
        all_lines = changed(SNP, products=("Milan", "Turin"), min_tcb=SnpTcb(fmc=1))
        assert is_narrower_or_equal(policy_of(all_lines), policy_of(changed(all_lines, products=("Turin",))))
        hopeless = changed(all_lines, products=("Milan", "Genoa"))
        assert is_narrower_or_equal(policy_of(hopeless), policy_of(BASE))
        assert not is_narrower_or_equal(policy_of(SNP), policy_of(hopeless))

    def test_a_chequerboard_leaves_its_other_fields_open(self) -> None:
        board = changed(TDX, rtmr0=REGISTERS, rtmr1=REGISTERS)
        white = [changed(board, rtmr0=(one,), rtmr1=(one,)) for one in REGISTERS]
        black = [changed(board, rtmr0=(one,), rtmr1=(other,)) for one, other in (REGISTERS, REGISTERS[::-1])]
        assert is_narrower_or_equal(policy_of(board), policy_of(*white, *black))
        found = widenings(policy_of(board), policy_of(*white))
        assert len(found) == 2
        assert all(reason.startswith(("accepts RTMR0", "accepts RTMR1")) for reason in found)

    def test_any_value_is_more_than_all_that_are_named(self) -> None:
        named = [changed(TDX, rtmr1=(one,)) for one in REGISTERS]
        assert widenings(policy_of(changed(TDX, rtmr1=None)), policy_of(*named)) == ("accepts any RTMR1",)


class TestBound:
    """However large policies are, comparing them is quick, and never wrong on the wider side."""

    def test_the_largest_policies_compare_in_a_moment(self) -> None:
        digests = [f"{number:096x}" for number in range(256)]
        registers: dict[str, Any] = dict.fromkeys(
            ("measurements", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), tuple(digests)
        )
        largest = [changed(TDX, max_collateral_age_s=60 + n, **registers) for n in range(32)]
        bound = [changed(one, rtmr3=tuple(digests[:n] + digests[n + 1 :])) for n, one in enumerate(largest)]
        began = time.process_time()
        found = widenings(policy_of(*largest), policy_of(*bound))
        assert time.process_time() - began < 100  # what grows as it could takes years
        assert len(found) == 1  # together they accept every register but one, of the oldest collateral

    def test_too_many_sets_are_called_wider(self) -> None:
        """Each of ten choices excludes one of ten peers or another: 1,024 sets, none of them empty."""
        width, everyone = 10, (1 << 21) - 1
        choices = [(everyone & ~(1 << 2 * n), everyone & ~(1 << 2 * n + 1)) for n in range(width)]
        assert not is_covered(choices, everyone)
        assert is_covered(choices[:8], everyone)

    def test_what_cannot_be_told_is_said_to_be_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("s3ml.attestation.policy.order.is_covered", lambda _choices, _within: False)
        both = changed(BASE, measurements=CODES[:2])
        spread = policy_of(*(changed(BASE, measurements=(code,)) for code in CODES[:2]))
        assert widenings(policy_of(both), spread) == (ENTANGLED,)

    def test_only_the_first_parts_are_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("s3ml.attestation.policy.order.EXPLAINED_LIMIT", 1)
        many = changed(BASE, tcb_statuses=("OutOfDate", "ConfigurationNeeded"))
        bounds = policy_of(BASE, changed(BASE, tcb_statuses=("ConfigurationNeeded",), advisories=ADVISORIES))
        assert widenings(policy_of(many), bounds) == ("tolerates TCB status OutOfDate",)

    def test_sets_that_contain_others_do_not_count(self) -> None:
        assert smallest([0b111, 0b011, 0b001, 0b110, 0b001]) == [0b001, 0b110]


class TestWidenings:
    """Each widening is explained in plain words."""

    @pytest.mark.parametrize(
        ("base", "changes", "reason"),
        [
            (BASE, {"measurements": CODES[:2]}, f"accepts measurement {CODES[1]}"),
            (BASE, {"tcb_statuses": ("UpToDate", "OutOfDate")}, "tolerates TCB status OutOfDate"),
            (BASE, {"advisories": ADVISORIES[:1]}, "tolerates advisory INTEL-SA-00001"),
            (
                BASE,
                {"min_tcb_evaluation_data_number": 4},
                "accepts tcbEvaluationDataNumber 4, where at least 5 is asked",
            ),
            (
                BASE,
                {"max_collateral_age_s": 2_592_001},
                "accepts collateral 2592001 s old, where at most 2592000 s is allowed",
            ),
            (
                BASE,
                {"measurements": None, "signer": CODES[2], "product_id": 1, "min_svn": 1},
                f"accepts product 1 of signer {CODES[2]}",
            ),
            (BASE, {"tee": Tee.SIMULATED, "root": ROOTS[0]}, "accepts tee simulated, where sgx is asked"),
            (
                TDX,
                {"tee": Tee.SIMULATED, "simulates": Technology.TDX, "root": ROOTS[0]},
                "accepts tee simulated tdx, where tdx is asked",
            ),
            (TDX, {"rtmr1": REGISTERS}, f"accepts RTMR1 {REGISTERS[1]}"),
            (TDX, {"rtmr1": None}, "accepts any RTMR1"),
            (TDX, {"events": ()}, f"accepts a log without event {'e' * 96} in RTMR2"),
            (TDX, {"events": EVENTS[1:]}, f"accepts a log without event {'e' * 96} in RTMR2"),
            (SNP, {"products": ("Milan", "Genoa")}, "accepts processor line Genoa"),
            (SNP, {"endorsement_keys": ("VCEK", "VLEK")}, "accepts endorsement key VLEK"),
            (
                SNP,
                {"min_tcb": SnpTcb(microcode=4, snp=9)},
                "accepts a platform with microcode 4, where at least 5 is asked",
            ),
            (SNP, {"max_vmpl": 2}, "accepts VMPL 2, where at most 0 is allowed"),
            (SNP, {"allow_smt": True}, "accepts simultaneous multithreading"),
            (SNP, {"allow_migration_agent": True}, "accepts a migration agent"),
            (SNP, {"require_crl": False}, "accepts a missing revocation list"),
            (
                SNP,
                {
                    "measurements": None,
                    "signer": LONG_CODES[1],
                    "family_id": IDS[0],
                    "image_id": IDS[1],
                    "min_svn": 1,
                },
                f"accepts image {IDS[1]} of family {IDS[0]} of signer {LONG_CODES[1]}",
            ),
        ],
    )
    def test_a_widening_is_named(self, base: Alternative, changes: dict[str, Any], reason: str) -> None:
        wider = changed(base, **changes)
        assert widenings(policy_of(wider), policy_of(base)) == (reason,)

    @pytest.mark.parametrize(
        ("base", "changes", "reason"),
        [
            (TDX, {"config_ids": REGISTERS[:1]}, "accepts any MRCONFIGID"),
            (SNP, {"host_data": HOST_DATA[:1]}, "accepts any host data"),
            (SNP, {"chip_ids": CHIPS[:1]}, "accepts any chip"),
            (SNP, {"author": LONG_CODES[2]}, "accepts any author"),
        ],
        ids=str,
    )
    def test_what_is_no_longer_asked_is_named(
        self, base: Alternative, changes: dict[str, Any], reason: str
    ) -> None:
        assert widenings(policy_of(base), policy_of(changed(base, **changes))) == (reason,)
        assert widenings(policy_of(changed(base, **changes)), policy_of(base)) == ()

    def test_lower_minimums_of_the_quoting_enclaves(self) -> None:
        bound = changed(BASE, min_qe_svn=3, min_pce_svn=4)
        assert widenings(policy_of(BASE), policy_of(bound)) == (
            "accepts a quoting enclave of SVN 0, where at least 3 is asked",
            "accepts a certification enclave of SVN 0, where at least 4 is asked",
        )

    def test_a_lower_version_of_a_product(self) -> None:
        signed = Alternative(tee=Tee.SGX, signer=CODES[0], product_id=1, min_svn=3)
        assert widenings(policy_of(changed(signed, min_svn=2)), policy_of(signed)) == (
            "accepts SVN 2 of the signer's product, where at least 3 is asked",
        )

    def test_a_measurement_is_not_within_a_signer(self) -> None:
        signed = Alternative(tee=Tee.SGX, signer=CODES[2], product_id=1, min_svn=3)
        measured = Alternative(tee=Tee.SGX, measurements=CODES[:1])
        assert widenings(policy_of(measured), policy_of(signed)) == (
            f"accepts measurement {CODES[0]}, where signer {CODES[2]} is asked",
        )

    def test_another_simulation_root(self, world: World) -> None:
        other = policy_of(changed(world.policy.accept[0], root=ROOTS[0]))
        assert widenings(other, world.policy) == (
            f"trusts simulation root {hashlib.sha256(ROOTS[0]).hexdigest()}",
        )

    def test_an_unreplayed_event_is_none(self) -> None:
        """A register's value fixes its events, but nobody can tell which: no event is taken for granted."""
        fixed = changed(TDX, rtmr2=REGISTERS[:1], events=())
        assert not is_narrower_or_equal(policy_of(fixed), policy_of(changed(fixed, events=EVENTS[:1])))
        more = (*EVENTS, RuntimeEvent(register=3, digest="d" * 96))
        assert is_narrower_or_equal(policy_of(changed(TDX, events=more)), policy_of(TDX))

    def test_all_reasons_come_at_once_and_once(self) -> None:
        candidate = changed(
            BASE, measurements=CODES, tcb_statuses=("UpToDate", "OutOfDate"), advisories=ADVISORIES
        )
        assert sorted(widenings(policy_of(candidate), policy_of(BASE))) == sorted(
            [
                f"accepts measurement {CODES[1]}",
                f"accepts measurement {CODES[2]}",
                "tolerates TCB status OutOfDate",
                "tolerates advisory INTEL-SA-00001",
                "tolerates advisory INTEL-SA-00002",
            ]
        )
