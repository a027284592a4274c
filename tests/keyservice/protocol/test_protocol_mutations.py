"""The model can fail: with one rule of the protocol taken out, it says how that goes wrong.

Each seeds one bug into the real code. The nearest counterexample must be of the rule that the bug breaks.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from s3ml.keyservice import cosigning, replaying, replica
from s3ml.keyservice.errors import HaltedError
from s3ml.keyservice.generations import Generations
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.ledger import Ledger
from s3ml.keyservice.replaying import Reader
from s3ml.keyservice.replica import Phase, Replica
from s3ml.keyservice.storage import Committed
from s3ml.transparency.cosignature import verified_cosignatures
from s3ml.transparency.witness import service as witnessing
from s3ml.transparency.witness.decision import Outcome, Verdict
from tests.keyservice.protocol.explorer import explore
from tests.keyservice.protocol.model import Budget, Scenario
from tests.keyservice.protocol.scenarios import HOST, RACE, REKEY

Patch = pytest.MonkeyPatch
SECONDS = 400.0
LOST = Scenario(name="lost", witnesses=3, quorum=2, once=("narrow",), recovers=False, budget=Budget(faults=2))
LEASED = replace(HOST, name="leased", once=("narrow",), recovers=False, budget=Budget(host=1, jumps=2))
SPLIT = replace(
    HOST, name="split", witnesses=1, quorum=1, once=(), recovers=False, budget=Budget(host=1, jumps=1)
)
COLD = Scenario(
    name="cold", witnesses=1, quorum=1, serves=(False, False), recovers=False, budget=Budget(faults=1)
)
JOINS = Scenario(name="joins", witnesses=1, quorum=1, serves=(True, False), recovers=False)
OLD = Scenario(
    name="old",
    witnesses=1,
    quorum=1,
    jumps=(86_500.0,),
    recovers=False,
    budget=Budget(jumps=1),
)


def commits_without_quorum(patch: Patch) -> None:
    """A head is taken for committed whatever its note carries."""
    patch.setattr(cosigning, "_is_complete", lambda note, authorities: True)
    patch.setattr(replaying, "require_quorum", lambda note, witnesses, quorum: {})


def half_is_a_quorum(patch: Patch) -> None:
    """One of three witnesses is enough."""

    def has_quorum(found: Any, quorum: int) -> bool:
        return len(found) >= quorum - 1

    patch.setattr(cosigning, "has_quorum", has_quorum)
    patch.setattr(
        replaying, "require_quorum", lambda note, witnesses, quorum: verified_cosignatures(note, witnesses)
    )


def cosigns_two_roots(patch: Patch) -> None:
    """A witness cosigns whatever it is shown."""
    patch.setattr(witnessing, "decide", lambda watched, request: Outcome(verdict=Verdict.COSIGN))


def the_recovering_vouch(patch: Patch) -> None:
    """A replica that has just started lets another in, and so do two that have."""
    real: Any = vars(Replica)["phase"].fget

    def phase(self: Replica) -> Any:
        found = real(self)
        return Phase.SERVING if found is Phase.RECOVERING else found

    patch.setattr(Replica, "phase", property(phase))
    patch.setattr(Replica, "is_fresh", property(lambda self: True))


def serves_before_committed(patch: Patch) -> None:
    """What is stored is served at once."""
    patch.setattr(Ledger, "view", property(lambda self: self._reader.stored))


def leases_last(patch: Patch) -> None:
    """A lease never ends."""
    patch.setattr(Replica, "is_fresh", property(lambda self: True))


def rollback_is_ignored(patch: Patch) -> None:
    """A database that went back is read as it is."""
    real = Reader.read_on

    def read_on(self: Reader) -> Any:
        _, committed = self._storage.heads()
        if committed is not None and committed.size < self.view.size:
            self.__init__(self._storage, self._clock)  # type: ignore[misc]
        return real(self)

    patch.setattr(Reader, "read_on", read_on)


def generations_are_lost(patch: Patch) -> None:
    """Keys of living epochs are destroyed when they are a day old."""
    real = Generations.retain
    patch.setattr(Generations, "retain", lambda self, needed, now: real(self, frozenset(), now))


def keeps_lost_secrets(patch: Patch) -> None:
    """What was sealed for a lost compare-and-swap is written with the next one."""
    real, made = replica.seal_to, {}  # type: ignore[var-annotated]

    def seal_to(sealing_key: Any, keyring: Any) -> Any:
        if sealing_key is None:
            return ()
        name = keyring.wrapping_key.reveal()
        return made.setdefault(name, real(sealing_key, keyring))

    patch.setattr(replica, "seal_to", seal_to)


def old_keys_go_on(patch: Patch) -> None:
    """A replica whose keys were replaced writes and serves with the old ones."""
    patch.setattr(Keyring, "is_of", lambda self, authority: True)


def the_slow_halt(patch: Patch) -> None:
    """A witness that knows a longer log halts a replica whose database holds it."""

    async def settle(self: Ledger) -> None:
        reader = self._reader
        if reader.is_settled:
            return
        try:
            note = await self._cosigner.cosign(reader.stored, self._authorities(reader.stored.state))
        except HaltedError as error:
            self._contradicted = error
            raise
        committed = Committed(size=reader.stored.size, note=note)
        await asyncio.to_thread(self.storage.commit, committed)
        reader.commit(note)

    patch.setattr(Ledger, "_settle", settle)


CASES: tuple[tuple[Callable[[Patch], None], Scenario, str], ...] = (
    (commits_without_quorum, LOST, "b"),
    (half_is_a_quorum, LOST, "b"),
    (cosigns_two_roots, SPLIT, "a"),
    (the_recovering_vouch, COLD, "d"),
    (serves_before_committed, LOST, "b"),
    (leases_last, LEASED, "b"),
    (rollback_is_ignored, LEASED, "e"),
    (generations_are_lost, OLD, "h"),
    (keeps_lost_secrets, JOINS, "f"),
    (old_keys_go_on, REKEY, "i"),
    (the_slow_halt, replace(RACE, recovers=False), "j"),
)


@pytest.mark.parametrize(("seed", "scenario", "rule"), CASES, ids=[seed.__name__ for seed, _, _ in CASES])
def test_a_seeded_bug_is_found(
    seed: Callable[[Patch], None], scenario: Scenario, rule: str, monkeypatch: Patch
) -> None:
    found = explore(scenario, seconds=SECONDS, seed=lambda: seed(monkeypatch))
    assert found.broken is not None, found
    assert found.broken.rule == rule, found.broken
