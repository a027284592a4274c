"""The life of epochs: every rule of `due`, `lapse` and `follows`, at its boundary, and what never happens."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import AppraisalPolicy, Tee
from s3ml.attestation.policy import Alternative
from s3ml.keyservice.documents import EpochEntry, ServiceTimes
from s3ml.keyservice.epochs import (
    NO_EPOCHS,
    REQUEST_S,
    TRANSITIONS,
    Begin,
    Epoch,
    EpochLine,
    EpochState,
    Move,
    Step,
    Wanted,
    discard,
    due,
    follows,
    key_ids,
    lapse,
)
from tests.clocks import NOW
from tests.keyservice.keyservice_world import MODEL_SERVER_CODE, PKI, policy_of

NARROW = policy_of(MODEL_SERVER_CODE)
OTHER = policy_of(bytes(32))
WIDE = AppraisalPolicy(
    accept=(
        Alternative(
            tee=Tee.SIMULATED, root=PKI.root_der, measurements=(MODEL_SERVER_CODE.hex(), bytes(32).hex())
        ),
    )
)
TIMES = ServiceTimes(epoch_s=3600, lease_s=300, bundle_s=600)
DRAINED_S = TIMES.bundle_s + REQUEST_S
DIGEST, OTHER_DIGEST = "aa" * 32, "bb" * 32
G1, G2 = "11" * 32, "22" * 32


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def epoch(number: int, state: str, *, since_s: float = 0, generation: str = G1, **changes: object) -> Epoch:
    made = Epoch(
        service="tumours",
        policy=NARROW,
        policy_sha256=DIGEST,
        number=number,
        state=EpochState(state),
        since=at(since_s),
        generation=generation,
        key_configs=b"",
        index=10 * number,
        data=b"",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def line(*epochs: Epoch) -> EpochLine:
    return EpochLine(last=epochs[-1].number, index=epochs[-1].index, living=epochs)


WANT = Wanted(policy=NARROW, policy_sha256=DIGEST, times=TIMES)


def steps(
    found: EpochLine, now_s: float, *, want: Wanted = WANT, lost: frozenset[str] = frozenset()
) -> list[Step]:
    return list(due({"tumours": found}, {"tumours": want}, now=at(now_s), lost=lost))


def begin(number: int, state: str, reason: str) -> Begin:
    return Begin(service="tumours", policy_sha256=DIGEST, number=number, state=state, reason=reason)  # type: ignore[arg-type]


def move(number: int, state: str, reason: str) -> Move:
    return Move(service="tumours", number=number, state=state, reason=reason)  # type: ignore[arg-type]


class TestRule1LostGenerations:
    """What nobody can open any more is retired, and replaced in the same breath."""

    def test_a_lost_active_epoch_begins_anew(self) -> None:
        found = steps(line(epoch(1, "active")), 1, lost=frozenset({G1}))
        assert found == [move(1, "retired", "lost"), begin(2, "active", "restarted")]

    def test_a_pending_one_that_is_held_takes_its_place(self) -> None:
        found = line(epoch(1, "active"), epoch(2, "pending", generation=G2))
        assert steps(found, 1, lost=frozenset({G1})) == [
            move(1, "retired", "lost"),
            move(2, "active", "scheduled"),
        ]

    def test_a_lost_pending_one_alone_is_replaced_on_schedule_only(self) -> None:
        found = line(epoch(1, "active"), epoch(2, "pending", generation=G2))
        assert steps(found, 1, lost=frozenset({G2})) == [move(2, "retired", "lost")]

    def test_a_lost_draining_one_is_retired_early(self) -> None:
        found = line(epoch(1, "draining"), epoch(2, "active", generation=G2))
        assert steps(found, 1, lost=frozenset({G1})) == [move(1, "retired", "lost")]

    def test_all_lost(self) -> None:
        found = line(epoch(1, "draining"), epoch(2, "active"), epoch(3, "pending"))
        assert steps(found, 1, lost=frozenset({G1})) == [
            move(1, "retired", "lost"),
            move(2, "retired", "lost"),
            move(3, "retired", "lost"),
            begin(4, "active", "restarted"),
        ]


class TestRule2Drained:
    """A draining epoch stays for as long as a client may use it, and its request takes."""

    @pytest.mark.parametrize(("after_s", "is_over"), [(0, False), (DRAINED_S - 1, False), (DRAINED_S, True)])
    def test_the_boundary(self, after_s: float, *, is_over: bool) -> None:
        found = line(epoch(1, "draining"), epoch(2, "active"))
        assert steps(found, after_s) == ([move(1, "retired", "drained")] if is_over else [])

    def test_it_is_retired_once_even_where_its_generation_is_lost(self) -> None:
        found = line(epoch(1, "draining"), epoch(2, "active", generation=G2))
        assert steps(found, DRAINED_S, lost=frozenset({G1})) == [move(1, "retired", "lost")]


class TestRule3NoActiveEpoch:
    def test_the_first(self) -> None:
        assert steps(NO_EPOCHS, 0) == [begin(1, "active", "created")]

    def test_after_a_policy_ended_the_last(self) -> None:
        assert steps(EpochLine(last=7, index=70), 0) == [begin(8, "active", "policy-changed")]

    def test_on_request(self) -> None:
        want = replace(WANT, requested_at=71)
        assert steps(EpochLine(last=7, index=70), 0, want=want) == [begin(8, "active", "requested")]

    def test_a_pending_one_does_not_wait(self) -> None:
        assert steps(line(epoch(1, "draining"), epoch(2, "pending")), 0) == [move(2, "active", "scheduled")]

    def test_what_drains_goes_on_draining(self) -> None:
        assert steps(line(epoch(1, "draining")), 0) == [begin(2, "active", "policy-changed")]


class TestRule4Pending:
    """A pending epoch is used once every lease that lacks its keys has ended."""

    @pytest.mark.parametrize(("after_s", "is_due"), [(0, False), (299.9, False), (300, True)])
    def test_the_boundary(self, after_s: float, *, is_due: bool) -> None:
        found = line(epoch(1, "active"), epoch(2, "pending"))
        assert steps(found, after_s) == ([move(2, "active", "scheduled")] if is_due else [])

    def test_no_second_one_begins_meanwhile(self) -> None:
        found = line(epoch(1, "active", since_s=-9999), epoch(2, "pending"))
        assert steps(found, 0, want=replace(WANT, requested_at=99)) == []


class TestRule5Rotation:
    """A pending epoch begins one lease before its time, or on request."""

    @pytest.mark.parametrize(("after_s", "is_due"), [(3299, False), (3300, True), (9999, True)])
    def test_the_schedule(self, after_s: float, *, is_due: bool) -> None:
        found = steps(line(epoch(1, "active")), after_s)
        assert found == ([begin(2, "pending", "scheduled")] if is_due else [])

    def test_a_lease_longer_than_the_epoch_rotates_at_once(self) -> None:
        want = replace(WANT, times=ServiceTimes(epoch_s=60, lease_s=300))
        assert steps(line(epoch(1, "active")), 0, want=want) == [begin(2, "pending", "scheduled")]

    @pytest.mark.parametrize(("requested_at", "is_due"), [(-1, False), (9, False), (10, False), (11, True)])
    def test_a_request_counts_once(self, requested_at: int, *, is_due: bool) -> None:
        """It is met by the first epoch that begins after it."""
        found = steps(line(epoch(1, "active")), 0, want=replace(WANT, requested_at=requested_at))
        assert found == ([begin(2, "pending", "requested")] if is_due else [])


class TestServices:
    def test_each_has_its_own_line(self) -> None:
        lines = {"a": line(epoch(1, "active", service="a")), "b": NO_EPOCHS}
        found = due(lines, {"a": WANT, "b": WANT}, now=at(0))
        assert [(step.service, step.number) for step in found] == [("b", 1)]

    def test_one_that_stands_still_is_left_alone(self) -> None:
        assert due({"tumours": line(epoch(1, "active"))}, {}, now=at(99999), lost=frozenset({G1})) == ()


class TestLapse:
    """A narrowed policy ends its epochs at once; a widened one lets them drain."""

    def lapsed(self, want: Wanted | None, *epochs: Epoch) -> list[tuple[int, str]]:
        after = lapse({"tumours": line(*epochs)}, {} if want is None else {"tumours": want}, at=at(5))
        return [(one.number, one.state) for one in after["tumours"].living]

    ALL = (epoch(1, "draining"), epoch(2, "active"), epoch(3, "pending"))

    def test_the_same_policy_changes_nothing(self) -> None:
        assert self.lapsed(WANT, *self.ALL) == [(1, "draining"), (2, "active"), (3, "pending")]

    def test_a_wider_one_drains_and_discards_what_is_pending(self) -> None:
        wide = replace(WANT, policy=WIDE, policy_sha256=OTHER_DIGEST)
        assert self.lapsed(wide, *self.ALL) == [(1, "draining"), (2, "draining")]

    @pytest.mark.parametrize("policy", [OTHER, policy_of(MODEL_SERVER_CODE, min_qe_svn=1)])
    def test_a_narrower_or_another_one_retires_all(self, policy: AppraisalPolicy) -> None:
        assert self.lapsed(replace(WANT, policy=policy, policy_sha256=OTHER_DIGEST), *self.ALL) == []

    def test_no_policy_retires_all(self) -> None:
        assert self.lapsed(None, *self.ALL) == []

    def test_draining_begins_then_and_not_before(self) -> None:
        wide = replace(WANT, policy=WIDE, policy_sha256=OTHER_DIGEST)
        after = lapse({"tumours": line(*self.ALL)}, {"tumours": wide}, at=at(5))["tumours"]
        assert [one.since for one in after.living] == [at(0), at(5)]

    def test_the_number_goes_on(self) -> None:
        after = lapse({"tumours": line(*self.ALL)}, {}, at=at(5))["tumours"]
        assert (after.last, after.index) == (3, 30)
        assert (discard(line(*self.ALL)).last, discard(line(*self.ALL)).living) == (3, ())


class TestFollows:
    """Which epoch's entry may come next."""

    ENTRY = EpochEntry(
        service="tumours",
        policy_sha256=DIGEST,
        epoch=2,
        state="pending",
        generation=G1,
        key_configs=b"",
        reason="scheduled",
    )

    def entry(self, **changes: object) -> EpochEntry:
        return msgspec.structs.replace(self.ENTRY, **changes)

    def test_a_pending_one_after_an_active_one(self) -> None:
        assert follows(self.ENTRY, line(epoch(1, "active")), WANT)

    def test_an_active_one_where_there_is_none(self) -> None:
        assert follows(self.entry(epoch=1, state="active"), NO_EPOCHS, WANT)
        assert follows(self.entry(state="active"), line(epoch(1, "draining")), WANT)

    @pytest.mark.parametrize(
        ("changes", "found", "want"),
        [
            ({}, line(epoch(1, "active")), None),
            ({"epoch": 1}, line(epoch(1, "active")), WANT),
            ({"epoch": 3}, line(epoch(1, "active")), WANT),
            ({"policy_sha256": OTHER_DIGEST}, line(epoch(1, "active")), WANT),
            ({"epoch": 3}, line(epoch(1, "active"), epoch(2, "pending")), WANT),
            ({"state": "active"}, line(epoch(1, "active")), WANT),
            ({"epoch": 1}, NO_EPOCHS, WANT),
        ],
    )
    def test_others_do_not(self, changes: dict[str, object], found: EpochLine, want: Wanted | None) -> None:
        assert not follows(self.entry(**changes), found, want)


class TestLines:
    def test_none_comes_back_from_where_it_is_not(self) -> None:
        with pytest.raises(ValueError, match="not retired"):
            line(epoch(1, "active")).move(2, EpochState.ACTIVE, at=NOW)
        with pytest.raises(ValueError, match="a state after active, got active"):
            line(epoch(1, "active")).move(1, EpochState.ACTIVE, at=NOW)

    def test_a_new_active_one_sends_the_old_one_into_draining(self) -> None:
        moved = line(epoch(1, "active"), epoch(2, "pending")).move(2, EpochState.ACTIVE, at=at(9))
        assert [(one.number, one.state, one.since) for one in moved.living] == [
            (1, "draining", at(9)),
            (2, "active", at(9)),
        ]
        assert moved.number(1) is not None
        assert moved.at(EpochState.PENDING) is None

    def test_key_ids_come_back_after_128_epochs(self) -> None:
        assert key_ids(1) == key_ids(129) == (2, 3)


LOST = st.sets(st.sampled_from([G1, G2]))
EVENTS = st.lists(
    st.tuples(st.integers(0, 4000), LOST, st.booleans(), st.sampled_from(["", "narrow", "wide", "other"])),
    max_size=30,
)
POLICIES: Mapping[str, tuple[AppraisalPolicy, str]] = {
    "narrow": (NARROW, DIGEST),
    "wide": (WIDE, "cc" * 32),
    "other": (OTHER, OTHER_DIGEST),
}


class TestWhateverHappens:
    """Whatever time, losses, owners and requests do: no epoch's life breaks its rules."""

    @settings(max_examples=200, deadline=None)
    @given(EVENTS)
    def test_a_life_never_leads_back(self, events: list[tuple[int, set[str], bool, str]]) -> None:
        found, want, now_s, index = NO_EPOCHS, WANT, 0.0, 0
        seen: dict[int, EpochState] = {}
        for wait_s, lost, is_requested, policy in events:
            now_s, index = now_s + wait_s, index + 1
            if is_requested:
                want = replace(want, requested_at=index)
            if policy:
                want = replace(want, policy=POLICIES[policy][0], policy_sha256=POLICIES[policy][1])
                found = lapse({"tumours": found}, {"tumours": want}, at=at(now_s))["tumours"]
                self.check(found, seen, has_active=False)
            for step in steps(found, now_s, want=want, lost=frozenset(lost)):
                index += 1
                found = self.carried_out(found, step, want, now_s=now_s, index=index, lost=lost)
                self.check(found, seen, has_active=False)
            self.check(found, seen, has_active=True)
            assert steps(found, now_s, want=want, lost=frozenset(lost)) in (
                [],
                [*self.requested(found, want)],
            )

    @staticmethod
    def requested(found: EpochLine, want: Wanted) -> list[Step]:
        """Return what a request adds that a pending epoch kept waiting, or a schedule of no length."""
        if found.at(EpochState.PENDING) is None and want.requested_at > found.index:
            return [
                Begin(
                    service="tumours",
                    policy_sha256=want.policy_sha256,
                    number=found.last + 1,
                    state="pending",
                    reason="requested",
                )
            ]
        return []

    @staticmethod
    def carried_out(
        found: EpochLine, step: Step, want: Wanted, *, now_s: float, index: int, lost: set[str]
    ) -> EpochLine:
        if isinstance(step, Move):
            return found.move(step.number, EpochState(step.state), at=at(now_s))
        entry = EpochEntry(
            service="tumours",
            policy_sha256=step.policy_sha256,
            epoch=step.number,
            state=step.state,
            generation=min({G1, G2, "33" * 32} - lost),
            key_configs=b"",
            reason=step.reason,
        )
        assert follows(entry, found, want)
        return found.begin(
            epoch(
                step.number,
                step.state,
                since_s=now_s,
                generation=entry.generation,
                index=index,
                policy=want.policy,
                policy_sha256=step.policy_sha256,
            )
        )

    @staticmethod
    def check(found: EpochLine, seen: dict[int, EpochState], *, has_active: bool) -> None:
        states = [one.state for one in found.living]
        assert states.count(EpochState.ACTIVE) == 1 if has_active else states.count(EpochState.ACTIVE) <= 1
        assert states.count(EpochState.PENDING) <= 1
        now = {one.number: one.state for one in found.living}
        for number, before in list(seen.items()):
            after = now.get(number, EpochState.RETIRED)
            assert after is before or after in TRANSITIONS[before], (number, before, after)
        assert all(number > max(seen, default=0) for number in now.keys() - seen.keys())
        seen.update({number: now.get(number, EpochState.RETIRED) for number in {*seen, *now}})
