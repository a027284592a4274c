"""Keys come with a lease, are renewed in time, and go when it ends."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from s3ml.keyservice.client import KeyServiceRefusedError, KeyServiceUnavailableError
from s3ml.keyservice.documents import Mismatch
from s3ml.modelserver.enrolment import EARLY_RENEWAL_S, LEASE_ENDED, ServiceAbsentError
from s3ml.modelserver.lease import (
    FIRST_RETRY_S,
    LAST_RETRY_S,
    MODEL_RETRY_S,
    REFUSED_RETRY_S,
    Lease,
    Outcome,
    delay_s,
)
from s3ml.modelserver.releases import KeyServiceReleases
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.sealed import InnerRequest
from tests.modelserver.conftest import Replica, World, linear

LEASE = Lease(begins_at_s=100.0, lease_s=900.0)
MISMATCH = Mismatch(claim="measurement", expected="aa" * 32, got="bb" * 32)
REFUSAL = KeyServiceRefusedError(
    "evidence: measurement: expected aa, got bb", status=403, mismatches=(MISMATCH,)
)


def delay(outcome: Outcome, *, attempt: int = 1, jitter: float = 0.0, now_s: float = 100.0) -> float:
    return delay_s(outcome, attempt=attempt, lease=LEASE, now_s=now_s, jitter=jitter)


class TestDelays:
    """When the key service is asked again."""

    def test_a_lease_is_renewed_after_a_third(self) -> None:
        assert delay(Outcome.GRANTED) == pytest.approx(300.0)
        assert delay(Outcome.GRANTED, now_s=200.0) == pytest.approx(200.0)

    def test_a_late_grant_is_renewed_soon(self) -> None:
        assert delay(Outcome.GRANTED, now_s=999.0) == FIRST_RETRY_S

    def test_failures_are_retried_ever_less_often_up_to_a_bound(self) -> None:
        delays = [delay(Outcome.UNAVAILABLE, attempt=attempt) for attempt in (1, 2, 3, 4, 5, 5000)]

        assert delays == [0.25, 0.5, 1.0, 2.0, 2.0, LAST_RETRY_S]

    def test_a_refusal_is_retried_slowly(self) -> None:
        assert delay(Outcome.REFUSED) == REFUSED_RETRY_S

    def test_a_model_that_failed_is_retried_before_the_renewal(self) -> None:
        assert delay(Outcome.INCOMPLETE) == MODEL_RETRY_S

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_jitter_makes_it_earlier_never_later(self, outcome: Outcome) -> None:
        assert delay(outcome) / 2 <= delay(outcome, jitter=0.99) < delay(outcome)


class TestPhases:
    """Why there are no keys is said, in a line for people and one event."""

    @pytest.mark.parametrize(
        ("failure", "phase", "event"),
        [
            (ServiceAbsentError("no service tumours"), "waiting for the service", "waiting"),
            (KeyServiceUnavailableError("refused connection"), "waiting for the key service", "waiting"),
            (REFUSAL, f"refused by the key service: {REFUSAL}", "refused"),
            (ConfigurationError("two keys"), "unusable release: two keys", "release-unusable"),
            (ValueError("SECRET"), "unusable release: internal error: ValueError", "release-unusable"),
        ],
    )
    async def test_each_failure_has_its_own(
        self, world: World, replica: Replica, failure: Exception, phase: str, event: str
    ) -> None:
        world.failure = failure
        await replica.enrol()
        reply = await replica.call("GET", "/v2/health/ready")

        assert (reply.status, reply.json()["phase"]) == (503, phase)
        assert replica.events[-1]["event"] == event
        assert "SECRET" not in replica.log.getvalue()

    async def test_a_refusal_is_one_line_with_expected_and_got(self, world: World, replica: Replica) -> None:
        world.failure = REFUSAL
        for _ in range(3):
            await replica.enrol()

        (event,) = replica.events
        assert event["claims"] == [{"claim": "measurement", "expected": "aa" * 32, "got": "bb" * 32}]

    async def test_a_long_refusal_is_cut(self, world: World, replica: Replica) -> None:
        world.failure = KeyServiceRefusedError("x" * 5000, status=403)
        await replica.enrol()

        assert len((await replica.call("GET", "/v2/health/ready")).json()["phase"]) == 600


class TestRenewal:
    """While the lease lasts, trouble with the key service is nobody else's."""

    async def test_a_refused_renewal_keeps_serving_until_the_end(self, serving_replica: Replica) -> None:
        serving_replica.world.failure = REFUSAL
        await serving_replica.enrol()
        assert (await serving_replica.call("GET", "/v2/health/ready")).status == 200

        serving_replica.clock.elapsed_s = 900.0
        assert (await serving_replica.call("GET", "/v2/health/ready")).status == 503

    async def test_a_lease_counts_from_the_question(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        world.begin_epoch()
        fetch = world.fetch

        def slow() -> Any:
            replica.clock.elapsed_s += 100.0
            return fetch()

        world.fetch = slow  # type: ignore[method-assign]
        await replica.enrol()
        replica.clock.elapsed_s = 899.9
        assert replica.serving.keys(replica.clock.monotonic_s()) is not None
        replica.clock.elapsed_s = 900.0
        assert replica.serving.keys(replica.clock.monotonic_s()) is None

    async def test_the_loop_asks_fast_then_slowly_then_by_the_lease(
        self, world: World, replica: Replica
    ) -> None:
        world.publish(linear())
        world.begin_epoch()
        script: list[Exception | None] = [ServiceAbsentError("none yet")] * 2 + [REFUSAL, None, None]
        fetch = world.fetch

        def scripted() -> Any:
            if not script:
                raise asyncio.CancelledError
            world.failure = script.pop(0)
            return fetch()

        world.fetch = scripted  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await replica.enrolment.run()

        assert replica.slept_s == pytest.approx([0.25, 0.5, 5.0, 5.0, 5.0, 295.0, 5.0, 295.0])

    async def test_an_unknown_key_makes_it_ask_early_but_not_at_once(
        self, world: World, replica: Replica
    ) -> None:
        """As after a restart of the key service, when new epochs begin in the middle of leases."""
        world.publish(linear())
        old = world.begin_epoch(1, first_id=1)
        waiting = asyncio.Event()
        pauses: list[float] = []

        async def sleep(pause_s: float) -> None:
            pauses.append(pause_s)
            if pause_s > EARLY_RENEWAL_S:
                waiting.set()
                await asyncio.Event().wait()

        replica.enrolment._sleep = sleep
        running = asyncio.ensure_future(replica.enrolment.run())
        await asyncio.wait_for(waiting.wait(), 20)
        assert (await replica.ask("GET", "/v2", config=old)).status == 200

        waiting.clear()
        world.epochs.clear()
        new = world.begin_epoch(2, first_id=7)
        reply = await replica.post(replica.seal(InnerRequest(method="GET", path="/v2"), new).body)
        assert reply.status == 400
        await asyncio.wait_for(waiting.wait(), 20)
        assert (await replica.ask("GET", "/v2", config=new)).status == 200
        assert world.fetches == 2
        assert pauses == pytest.approx([5.0, 295.0] * 2)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def test_an_unknown_model_makes_it_ask_early(self, world: World, replica: Replica) -> None:
        """As after owners have signed a service with one more model."""
        world.publish(linear())
        replica.config = world.begin_epoch()
        await replica.enrol()
        assert not replica.enrolment._wanted.is_set()
        reply = await replica.ask("GET", "/v2/models/tumours/versions/2")
        assert reply.status == 404
        assert replica.enrolment._wanted.is_set()

    async def test_a_model_that_cannot_be_loaded_is_told_with_its_reason(
        self, world: World, replica: Replica
    ) -> None:
        world.publish(linear())
        replica.config = world.begin_epoch()
        next(world.folder.rglob("*.s3ml")).unlink()
        await replica.enrol()
        phase = replica.serving.unready_phase(replica.clock.monotonic_s())
        assert phase is not None
        assert "no model could be loaded: bundle tumours/1.s3ml" in phase

        replica.serving.replace_models(replica.repository.retain(world.release()))
        assert replica.serving.unready_phase(replica.clock.monotonic_s()) == phase

    async def test_a_known_model_makes_it_ask_for_nothing(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        replica.config = world.begin_epoch()
        await replica.enrol()
        assert (await replica.ask("GET", "/v2/models/tumours")).status == 200
        assert not replica.enrolment._wanted.is_set()

    async def test_a_model_that_is_missing_is_fetched_when_it_comes(
        self, world: World, replica: Replica
    ) -> None:
        world.publish(linear())
        world.begin_epoch()
        bundle = world.store / "tumours" / "1.s3ml"
        bundle.rename(world.folder / "later")
        assert await replica.enrolment.attempt() is Outcome.INCOMPLETE

        (world.folder / "later").rename(bundle)
        assert await replica.enrolment.attempt() is Outcome.GRANTED
        replica.enrolment._set_timer(None)


class TestEndOfLease:
    """Keys go on time, whatever the loop is busy with."""

    async def test_the_timer_wipes_keys_and_models(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        world.begin_epoch()
        world.lease_s = 60.0
        await replica.enrolment.attempt()
        replica.clock.elapsed_s = 60.0
        replica.enrolment._end_lease()

        assert replica.serving.keys(replica.clock.monotonic_s()) is None
        assert (await replica.call("GET", "/v2/health/ready")).json()["phase"] == LEASE_ENDED
        assert replica.events[-1]["event"] == "lease-ended"
        replica.enrolment._set_timer(None)

    async def test_a_timer_that_fires_early_waits_again(self, serving_replica: Replica) -> None:
        serving_replica.enrolment._end_lease()

        assert serving_replica.enrolment._timer is not None
        assert serving_replica.serving.keys(serving_replica.clock.monotonic_s()) is not None
        serving_replica.enrolment._set_timer(None)

    async def test_a_renewal_replaces_the_timer(self, world: World, replica: Replica) -> None:
        world.begin_epoch()
        await replica.enrolment.attempt()
        first = replica.enrolment._timer
        await replica.enrolment.attempt()

        assert first is not None
        assert first.cancelled()
        replica.enrolment._set_timer(None)


class TestKeyServiceReleases:
    """The real source asks, attests and opens."""

    def source(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, release: Any) -> Any:
        class Client:
            def __init__(self, url: str, timeout_s: float) -> None:
                assert (url, timeout_s) == ("http://key-service", 10.0)

            def challenge(self, request: str) -> str:
                if failure is not None:
                    raise failure
                return f"challenge for {request}"

            def release(self, request: str) -> str:
                return f"reply to {request}"

        class Session:
            def __init__(self, service: str, attester: object) -> None:
                assert service == "tumours"

            def challenge_request(self) -> str:
                return "request"

            def answer(self, challenge: str) -> str:
                return f"evidence over {challenge}"

            def open(self, reply: str) -> Any:
                assert reply == "reply to evidence over challenge for request"
                return type("Opened", (), {"release": release})()

        monkeypatch.setattr("s3ml.modelserver.releases.KeyServiceClient", Client)
        monkeypatch.setattr("s3ml.modelserver.releases.ReleaseSession", Session)
        return KeyServiceReleases(("http://key-service",), "tumours", None)  # type: ignore[arg-type]

    def test_a_release_comes_out(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        release = world.release(issued_at=datetime.now(UTC))

        assert self.source(monkeypatch, None, release).fetch() is release

    def test_a_service_that_does_not_exist_yet_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        missing = KeyServiceRefusedError("no such service", status=404)

        with pytest.raises(ServiceAbsentError, match="no such service"):
            self.source(monkeypatch, missing, None).fetch()

    def test_the_next_replica_is_asked_where_one_does_not_serve(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever is asked first: the one that serves gives, and is asked first from then on."""
        asked: list[str] = []

        class Client:
            def __init__(self, url: str, timeout_s: float) -> None:
                self.url = url

            def challenge(self, request: str) -> str:
                asked.append(self.url)
                if self.url == "http://away":
                    raise KeyServiceUnavailableError("does not answer")
                return f"challenge for {request}"

        source = self.source(monkeypatch, None, world.release())
        monkeypatch.setattr(Client, "release", lambda _, request: f"reply to {request}", raising=False)
        monkeypatch.setattr("s3ml.modelserver.releases.KeyServiceClient", Client)
        source = KeyServiceReleases(("http://away", "http://here"), "tumours", None)  # type: ignore[arg-type]
        for _ in range(3):
            source.fetch()
        assert asked.count("http://away") <= 1
        assert asked[-2:] == ["http://here", "http://here"]

    def test_a_refusal_stays_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(KeyServiceRefusedError):
            self.source(monkeypatch, REFUSAL, None).fetch()
