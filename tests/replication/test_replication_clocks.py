"""Clocks an hour apart: the log's time never runs backwards, and both replicas go on.

A measured process reads the clock of its machine, which a test cannot turn; so this is about services in one
process, each with a clock of its own.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from s3ml.attestation import encode_policy
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents import TrustBundleRequest
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.peering import share, take
from s3ml.keyservice.replica import Replica
from s3ml.keyservice.service import KeyService
from tests.clocks import NOW, FakeClock
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, MODEL_POLICY, InProcessAttester, World

HOUR = timedelta(hours=1)


@dataclass(slots=True)
class OnePeer:
    """The other replica in this process, which gives what it holds; how that is proven is for other tests."""

    source: KeyService
    is_empty: bool = False

    async def join(self, replica: Replica) -> None:
        """Let `replica` in."""
        replica.admit(take(share(self.source.replica.serving().keyring), replica))


@dataclass(slots=True)
class Two:
    """Two replicas of one deployment, one of which believes that it is an hour later or earlier."""

    world: World
    other: KeyService


@pytest.fixture(params=[HOUR, -HOUR], ids=["an hour ahead", "an hour behind"])
async def two(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Two]:
    """Both serve one service."""
    world = World(tmp_path / "log.sqlite")
    await world.serve()
    clock = FakeClock(NOW + request.param)
    other = KeyService(
        world.storage,
        InProcessAttester(KEY_SERVICE_CODE),
        clock,
        world.events,
        cosigner=Cosigner((), timeout_s=5.0),
        batch_window_s=0.0,
    )
    monkeypatch.setattr(other.membership, "_peers", OnePeer(world.service))
    monkeypatch.setattr(world.service.membership, "_peers", OnePeer(other))
    await other.membership.step()
    other.replica.serving()
    yield Two(world, other)
    world.stop()


class TestAnHourApart:
    """What a replica reads in the log holds its own clock in check."""

    async def test_both_write_and_time_never_runs_backwards(self, two: Two) -> None:
        world = two.world
        for number in range(6):
            message = world.message(f"policies/turn-{number}", 1, encode_policy(MODEL_POLICY))
            await (two.other if number % 2 else world.service).control(message)
            await two.other.membership.step()
            await world.service.membership.step()
        times = [parse_entry(entry).time for entry in world.storage.entries(0, 1000)]
        assert times == sorted(times)
        listed = {one.resource for one in two.other.resources().resources}
        assert {f"policies/turn-{number}" for number in range(6)} <= listed

    async def test_both_release_and_state(self, two: Two) -> None:
        world = two.world
        session = world.session()
        session.open(await world.release(session))
        challenge = two.other.challenge(session.challenge_request())
        session.open(await two.other.release(session.answer(challenge)))
        await world.service.membership.step()
        session.open(await world.release(session))
        await world.bundles(TrustBundleRequest(service="tumours", nonce=bytes(32)))
