"""A quorum of the witnesses that the log names, whatever the others say, and however slowly."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3ml.keyservice.cosigning import ATTEMPTS, Cosigner
from s3ml.keyservice.errors import HaltedError, UncommittedError
from s3ml.keyservice.replaying import View
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from s3ml.transparency.cosignature import verified_cosignatures
from s3ml.transparency.merkle import Tree, leaf_hash
from s3ml.transparency.witness.client import (
    WitnessConflictError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from tests.clocks import FakeClock
from tests.keyservice.keyservice_fleet import Fleet, InProcessWitness, gone


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, witnesses=3)
    yield made
    made.stop()


@pytest.fixture
async def uncosigned(fleet: Fleet) -> View:
    """A stored head that no witness has seen yet."""
    await fleet.serve()
    first = fleet.first
    for witness in fleet.witnesses:
        witness.interfere = gone
    with pytest.raises(UncommittedError):
        await first.put_policy(name="more")
    for witness in fleet.witnesses:
        witness.interfere = lambda: None
    return first.service.replica.ledger.stored


async def cosigned(fleet: Fleet, view: View) -> set[str]:
    note = await fleet.first.cosigner.cosign(view, [view.authority])
    return set(verified_cosignatures(note, view.authority.witnesses))


class TestQuorum:
    async def test_all_agree(self, fleet: Fleet, uncosigned: View) -> None:
        assert len(await cosigned(fleet, uncosigned)) >= 2

    async def test_one_that_is_gone_is_not_waited_for(self, fleet: Fleet, uncosigned: View) -> None:
        fleet.witnesses[0].interfere = gone
        assert await cosigned(fleet, uncosigned) == {"witness.example/w1", "witness.example/w2"}

    async def test_one_that_stalls_is_not_waited_for(self, fleet: Fleet, uncosigned: View) -> None:
        release = threading.Event()

        def stall() -> None:
            release.wait(300)

        fleet.witnesses[0].interfere = stall
        try:
            assert await cosigned(fleet, uncosigned) == {"witness.example/w1", "witness.example/w2"}
        finally:
            release.set()

    async def test_two_that_are_gone_leave_it_uncommitted(self, fleet: Fleet, uncosigned: View) -> None:
        for witness in fleet.witnesses[:2]:
            witness.interfere = gone
        with pytest.raises(UncommittedError, match=r"1 of 2 witnesses cosigned .*does not answer"):
            await cosigned(fleet, uncosigned)

    async def test_asking_again_is_safe(self, fleet: Fleet, uncosigned: View) -> None:
        assert await cosigned(fleet, uncosigned) | await cosigned(fleet, uncosigned)

    async def test_a_note_that_has_its_quorum_is_asked_for_nowhere(
        self, fleet: Fleet, uncosigned: View
    ) -> None:
        note = await fleet.first.cosigner.cosign(uncosigned, [uncosigned.authority])
        before = [len(witness.asked) for witness in fleet.witnesses]
        again = replace(uncosigned, checkpoint=note)
        assert await fleet.first.cosigner.cosign(again, [uncosigned.authority]) == note
        assert [len(witness.asked) for witness in fleet.witnesses] == before

    async def test_with_no_address_nobody_is_asked(self, uncosigned: View) -> None:
        with pytest.raises(UncommittedError, match="no witness is configured"):
            await Cosigner((), timeout_s=1.0).cosign(uncosigned, [uncosigned.authority])


class TestLies:
    """Only a signature that holds counts, of a witness that the log names, once."""

    @pytest.mark.parametrize("kind", ["garbage", "another text", "empty"])
    async def test_lines_that_do_not_hold(self, fleet: Fleet, uncosigned: View, kind: str) -> None:
        other = InProcessWitness(1, fleet.clock)
        for witness in fleet.witnesses[1:]:
            lies = {
                "garbage": ("\u2014 witness.example/w1 AAAA",),
                "another text": (
                    other.signer.cosign(
                        uncosigned.checkpoint.replace(f"\n{uncosigned.size}\n", "\n999\n"),
                        timestamp=fleet.clock.now(),
                    ),
                ),
                "empty": (),
            }
            witness.alter = lambda _, said=lies[kind]: said  # type: ignore[misc]
        with pytest.raises(UncommittedError, match="1 of 2 witnesses"):
            await cosigned(fleet, uncosigned)

    async def test_one_witness_counts_once(self, fleet: Fleet, uncosigned: View) -> None:
        lines: list[str] = []

        def remember(found: tuple[str, ...]) -> tuple[str, ...]:
            lines.extend(found)
            return found

        fleet.witnesses[0].alter = remember
        for witness in fleet.witnesses[1:]:
            witness.alter = lambda _: (*lines, *lines)
        with pytest.raises(UncommittedError, match=r"[01] of 2 witnesses"):
            await cosigned(fleet, uncosigned)

    async def test_a_stranger_does_not_count(self, fleet: Fleet, uncosigned: View) -> None:
        stranger = InProcessWitness(9, fleet.clock)
        origin = uncosigned.authority.genesis.origin
        stranger.watch(origin, uncosigned.authority.checkpoint_key)
        line = stranger.add_checkpoint(old_size=0, proof=(), note=uncosigned.checkpoint)
        for witness in fleet.witnesses[1:]:
            witness.alter = lambda _: line
        with pytest.raises(UncommittedError, match="1 of 2"):
            await cosigned(fleet, uncosigned)

    async def test_one_that_claims_to_know_more_alone_stops_nothing(
        self, fleet: Fleet, uncosigned: View
    ) -> None:
        fleet.witnesses[0].interfere = conflict(10**9)
        assert len(await cosigned(fleet, uncosigned)) == 2

    async def test_one_that_keeps_changing_its_mind(self, fleet: Fleet, uncosigned: View) -> None:
        sizes = iter([3, 2, 3, 2, 3, 2, 3, 2])
        asked = [len(witness.asked) for witness in fleet.witnesses]

        def fickle() -> None:
            raise WitnessConflictError("another", known_size=next(sizes))

        fleet.witnesses[0].interfere = fickle
        fleet.witnesses[1].interfere = gone
        with pytest.raises(UncommittedError):
            await cosigned(fleet, uncosigned)
        assert len(fleet.witnesses[0].asked) - asked[0] <= ATTEMPTS

    async def test_one_that_repeats_the_size_that_it_was_asked_from(
        self, fleet: Fleet, uncosigned: View
    ) -> None:
        known = fleet.first.cosigner._witnesses[0].known_size
        fleet.witnesses[0].interfere = conflict(known)
        fleet.witnesses[1].interfere = gone
        asked = len(fleet.witnesses[0].asked)
        with pytest.raises(UncommittedError):
            await cosigned(fleet, uncosigned)
        assert len(fleet.witnesses[0].asked) == asked + 1


def conflict(size: int) -> Callable[[], None]:
    def said() -> None:
        raise WitnessConflictError("another size", known_size=size)

    return said


class TestContradiction:
    """Where the quorum is missing because witnesses know more, or another log, this one is not the newest."""

    async def test_a_longer_log(self, fleet: Fleet, uncosigned: View) -> None:
        for witness in fleet.witnesses[1:]:
            witness.interfere = conflict(1000)
        with pytest.raises(HaltedError, match="witnesses know 1000, 1000: this database is a fork, or older"):
            await cosigned(fleet, uncosigned)

    async def test_another_log(self, fleet: Fleet, uncosigned: View) -> None:
        def refuse() -> None:
            raise WitnessRefusedError("inconsistent", status=422)

        for witness in fleet.witnesses[1:]:
            witness.interfere = refuse
        with pytest.raises(HaltedError, match="witnesses know another log"):
            await cosigned(fleet, uncosigned)

    async def test_a_log_that_they_do_not_watch_is_no_contradiction(
        self, fleet: Fleet, uncosigned: View
    ) -> None:
        for witness in fleet.witnesses[1:]:
            witness.logs.keys = {}
        with pytest.raises(UncommittedError, match="no log of this origin"):
            await cosigned(fleet, uncosigned)


class TestWhatAWitnessKnows:
    async def test_its_size_is_learned_by_one_conflict(self, fleet: Fleet, uncosigned: View) -> None:
        fresh = Cosigner([witness.url for witness in fleet.witnesses], timeout_s=1.0)
        for one, witness in zip(fresh._witnesses, fleet.witnesses, strict=True):
            one.client.close()
            one.client = witness  # type: ignore[assignment]
        before = [len(witness.asked) for witness in fleet.witnesses]
        await fresh.cosign(uncosigned, [uncosigned.authority])
        asked = [witness.asked[start:] for witness, start in zip(fleet.witnesses, before, strict=True)]
        assert any(found[0] == 0 and len(found) == 2 for found in asked if found)
        fresh.close()

    async def test_a_witness_that_knew_more_than_this_head_is_asked_from_nothing(
        self, fleet: Fleet, uncosigned: View
    ) -> None:
        """The belief of an earlier try may be of another log."""
        for one in fleet.first.cosigner._witnesses:
            one.known_size = 10**6
        assert len(await cosigned(fleet, uncosigned)) >= 2


class TestContract:
    """The witness of these tests answers as a real one behind a real client does."""

    def test_its_answers(self) -> None:
        key, witness = SigningKey.generate(), InProcessWitness(1, FakeClock())
        tree = Tree(leaf_hash(bytes([n])) for n in range(4))
        notes = {
            n: sign_checkpoint(Checkpoint(origin="s3ml/x", size=n, root=tree.root(n)), key)
            for n in (1, 2, 3, 4)
        }
        with pytest.raises(WitnessRefusedError) as unknown:
            witness.add_checkpoint(old_size=0, proof=(), note=notes[2])
        assert unknown.value.status == 404
        witness.watch("s3ml/x", key.public)
        (line,) = witness.add_checkpoint(old_size=0, proof=(), note=notes[2])
        assert verified_cosignatures(notes[2] + line + "\n", [witness.key])
        with pytest.raises(WitnessConflictError) as stale:
            witness.add_checkpoint(old_size=1, proof=tree.consistency(1, 3), note=notes[3])
        assert stale.value.known_size == 2
        with pytest.raises(WitnessRefusedError) as forked:
            witness.add_checkpoint(old_size=2, proof=tree.consistency(1, 3), note=notes[3])
        assert forked.value.status == 422
        other = sign_checkpoint(Checkpoint(origin="s3ml/x", size=3, root=tree.root(3)), SigningKey.generate())
        with pytest.raises(WitnessRefusedError) as unsigned:
            witness.add_checkpoint(old_size=2, proof=tree.consistency(2, 3), note=other)
        assert unsigned.value.status == 403
        assert witness.add_checkpoint(old_size=2, proof=tree.consistency(2, 3), note=notes[3])
        witness.store.held.clear()
        with pytest.raises(WitnessConflictError):
            witness.add_checkpoint(old_size=3, proof=tree.consistency(3, 4), note=notes[4])
        with pytest.raises(WitnessUnavailableError):
            gone()
