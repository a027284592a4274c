"""A verifier that lives: what it remembers, and the time that it never turns back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from s3ml.attestation import EvidenceRejectedError, VerdictCache, VerifiedEnclave, Verifier
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World

MONTH = timedelta(days=30)


class HostClock:
    """A clock that the host sets as it likes."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
def clock() -> HostClock:
    return HostClock(NOW)


@pytest.fixture
def verifier(clock: HostClock) -> Verifier:
    return Verifier(clock=clock)


def verify(verifier: Verifier, world: World) -> VerifiedEnclave:
    return verifier.verify(world.evidence, world.policy, report_data=world.report_data)


def rejected_claims(verifier: Verifier, world: World) -> list[str]:
    with pytest.raises(EvidenceRejectedError) as rejected:
        verify(verifier, world)
    return [mismatch.claim for mismatch in rejected.value.mismatches]


def renewed(world: World, after: timedelta) -> World:
    """Have the vendor issue everything again."""
    return world.with_(collateral=world.pki.collateral(ISSUED + after))


class TestVerifying:
    """Its verdicts are those of a single verification."""

    def test_honest_evidence_is_accepted(self, verifier: Verifier, world: World) -> None:
        assert verify(verifier, world) == world.verify()

    def test_and_again_from_memory(self, clock: HostClock, world: World) -> None:
        cache = VerdictCache()
        verifier = Verifier(clock=clock, cache=cache)
        assert [verify(verifier, world) for _ in range(2)] == [world.verify()] * 2
        assert len(cache.wholes) == 1

    def test_a_broken_rule_rejects(self, verifier: Verifier, world: World) -> None:
        assert rejected_claims(verifier, world.with_(report_data=bytes(64))) == ["report_data"]

    def test_the_clock_of_the_machine_is_the_default(self, world: World) -> None:
        now = datetime.now(UTC)
        current = world.with_(collateral=world.pki.collateral(now - timedelta(minutes=1)))
        assert verify(Verifier(), current).measurement == world.verify().measurement


class TestTime:
    """It never verifies at an instant before the newest signed one that it has verified."""

    def test_turning_the_clock_back_revives_no_expired_collateral(
        self, clock: HostClock, verifier: Verifier, world: World
    ) -> None:
        clock.time = NOW + MONTH
        verify(verifier, renewed(world, MONTH))
        clock.time = NOW
        assert "collateral_validity" in rejected_claims(verifier, world)

    def test_nor_what_is_remembered(self, clock: HostClock, verifier: Verifier, world: World) -> None:
        verify(verifier, world)
        clock.time = NOW + MONTH
        verify(verifier, renewed(world, MONTH))
        clock.time = NOW
        assert "collateral_validity" in rejected_claims(verifier, world)

    def test_nor_what_has_become_too_old(self, clock: HostClock, verifier: Verifier, world: World) -> None:
        aged = world.with_policy(max_collateral_age_s=86400)
        verify(verifier, aged)
        clock.time = NOW + timedelta(days=2)
        verify(verifier, renewed(aged, timedelta(days=2)))
        clock.time = NOW
        assert rejected_claims(verifier, aged) == ["collateral_age"]

    def test_the_newest_one_counts_in_any_order(
        self, clock: HostClock, verifier: Verifier, world: World
    ) -> None:
        verify(verifier, renewed(world, timedelta(minutes=30)))
        verify(verifier, world)
        assert verifier.floor == ISSUED + timedelta(minutes=30)

    def test_a_rejected_quote_from_the_future_moves_nothing(self, verifier: Verifier, world: World) -> None:
        claims = rejected_claims(verifier, renewed(world, MONTH))
        assert "collateral_validity" in claims
        assert verifier.floor is None
        assert verify(verifier, world) == world.verify()

    def test_nor_does_one_that_only_the_policy_rejects(self, verifier: Verifier, world: World) -> None:
        rejected_claims(verifier, world.with_policy(measurements=("0" * 64,)))
        assert verifier.floor is None

    def test_a_clock_that_stands_still_is_moved_by_what_is_signed(
        self, clock: HostClock, verifier: Verifier, world: World
    ) -> None:
        """Before the floor, the floor is the present."""
        verify(verifier, world)
        clock.time = CREATED
        assert verify(verifier, world) == world.with_(now=ISSUED).verify()


class TestRestart:
    """The floor outlives the process that kept it."""

    def test_a_floor_that_was_kept_holds(self, clock: HostClock, verifier: Verifier, world: World) -> None:
        clock.time = NOW + MONTH
        verify(verifier, renewed(world, MONTH))
        clock.time = NOW
        again = Verifier(clock=clock, floor=verifier.floor)
        assert again.floor == ISSUED + MONTH
        assert "collateral_validity" in rejected_claims(again, world)

    def test_without_one_nothing_is_known(self, clock: HostClock, world: World) -> None:
        assert Verifier(clock=clock).floor is None

    def test_a_floor_without_a_zone_is_a_mistake(self) -> None:
        with pytest.raises(ConfigurationError, match="floor: expected a time with its zone"):
            Verifier(floor=NOW.replace(tzinfo=None))


class TestThreads:
    """Several threads may use it at once."""

    def test_the_floor_is_the_newest_of_all(self, verifier: Verifier, world: World) -> None:
        worlds = [renewed(world, timedelta(minutes=minutes)) for minutes in (0, 50, 10, 40, 20, 30)]
        with ThreadPoolExecutor(max_workers=4) as pool:
            told = list(pool.map(lambda one: verify(verifier, one).signed_at, worlds))
        assert max(told) == verifier.floor == ISSUED + timedelta(minutes=50)
