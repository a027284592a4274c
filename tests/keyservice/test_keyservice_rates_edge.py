"""Where the key service counts, and for whom: what was verified, and the address for everything else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from s3ml.attestation import EvidenceRejectedError, encode_policy
from s3ml.keyservice.documents import TrustBundleRequest
from s3ml.keyservice.errors import NotFoundError
from s3ml.keyservice.joining import JoinSession
from s3ml.keyservice.peering import reading_of
from s3ml.keyservice.rates import DEFAULTS, Outcome, Subject, TooManyRequestsError
from s3ml.keyservice.server import create_app
from s3ml.primitives.envelope import SignatureError
from tests.keyservice.keyservice_world import (
    MODEL_POLICY,
    NONCE,
    OWNER_KEYS,
    World,
)

BODY = encode_policy(MODEL_POLICY)


def counted(world: World, subject: Subject, outcome: Outcome) -> int:
    """Return how often `outcome` was counted for `subject`."""
    wanted = f's3ml_keyservice_rates_total{{outcome="{outcome}",subject="{subject}"}} '
    text = world.service.metrics.render(world.service.gauges())
    return sum(int(float(line.removeprefix(wanted))) for line in text.splitlines() if line.startswith(wanted))


def spend(world: World, subject: Subject) -> None:
    """Spend what is left of the rate of whoever asked as `subject` before."""
    table = world.service._rates._tables[subject]
    assert len(table) >= 1
    for identity in list(table._buckets):
        while not table.take(identity, now_s=world.clock.monotonic_s())[0]:
            pass


class TestServices:
    async def test_challenges_and_bundles_share_the_rate_of_their_service(self, serving: World) -> None:
        serving.service.challenge(serving.session().challenge_request())
        await serving.bundle()
        assert counted(serving, Subject.SERVICE, Outcome.ADMITTED) == 2
        spend(serving, Subject.SERVICE)
        with pytest.raises(TooManyRequestsError, match="this service"):
            serving.service.challenge(serving.session().challenge_request())
        with pytest.raises(TooManyRequestsError, match="this service"):
            await serving.bundle()
        serving.clock.advance(1.0)
        await serving.bundle()

    async def test_a_service_that_does_not_exist_counts_for_nobody(self, serving: World) -> None:
        with pytest.raises(NotFoundError):
            await serving.service.trust_bundle(TrustBundleRequest(service="others", nonce=NONCE))
        assert len(serving.service._rates) == 2  # the two owners of the set-up


class TestEnclaves:
    async def test_releases_count_for_the_verified_enclave(self, serving: World) -> None:
        await serving.release(serving.session())
        spend(serving, Subject.ENCLAVE)
        with pytest.raises(TooManyRequestsError, match="this enclave"):
            await serving.release(serving.session())
        assert len(serving.service._audit) == 1

    async def test_what_does_not_verify_spends_nobodys_rate(self, serving: World) -> None:
        with pytest.raises(EvidenceRejectedError):
            await serving.release(serving.session(bytes(32)))
        assert len(serving.service._rates._tables[Subject.ENCLAVE]) == 0


class TestJoiners:
    @staticmethod
    async def join(world: World) -> None:
        service = world.service
        session = JoinSession(world.genesis.deployment, world.attester.quote, now_s=world.clock.monotonic_s())
        offer = await service.door.offer(session.hello())
        reading = reading_of(service.replica, 1)
        await service.door.join(session.answer(offer, reading, now_s=world.clock.monotonic_s()))

    async def test_joins_count_for_the_verified_joiner_before_they_are_recorded(self, serving: World) -> None:
        await self.join(serving)
        assert counted(serving, Subject.JOINER, Outcome.ADMITTED) == 1
        spend(serving, Subject.JOINER)
        size = serving.view.size
        with pytest.raises(TooManyRequestsError, match="this joiner"):
            await self.join(serving)
        assert serving.view.size == size


class TestOwners:
    async def test_a_message_counts_for_each_owner_whose_signature_holds(self, serving: World) -> None:
        spend(serving, Subject.OWNER)
        size = serving.view.size
        with pytest.raises(TooManyRequestsError, match="this owner"):
            await serving.service.control(serving.message("policies/one", 1, BODY))
        assert serving.view.size == size
        serving.clock.advance(1.0)
        await serving.service.control(serving.message("policies/one", 1, BODY))

    async def test_signatures_of_others_spend_nobodys_rate(self, serving: World) -> None:
        before = counted(serving, Subject.OWNER, Outcome.ADMITTED)
        message = serving.message("policies/one", 1, BODY, keys=OWNER_KEYS[:1])
        with pytest.raises(SignatureError):
            await serving.service.control(message)
        assert counted(serving, Subject.OWNER, Outcome.ADMITTED) == before


Ask = Callable[..., Any]


@pytest.fixture
def ask(world: World) -> Ask:
    """Ask the application for a path from an address; returns status, fields and body."""
    app = create_app(world.service, world.events)

    async def asked(path: str, host: str | None = "203.0.113.7") -> tuple[int, dict[str, str], bytes]:
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "client": None if host is None else (host, 40000),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], fields, b"".join(one.get("body", b"") for one in sent[1:])

    return asked


class TestAddresses:
    """At the edge, before anything is read."""

    async def test_429_says_when_to_come_again(self, world: World, ask: Ask) -> None:
        assert (await ask("/v1/deployment"))[0] == 200
        spend(world, Subject.ADDRESS)
        status, fields, body = await ask("/v1/deployment")
        assert (status, fields["retry-after"]) == (429, "1")
        assert json.loads(body)["error"] == "key service: this address asks too often"
        assert counted(world, Subject.ADDRESS, Outcome.REFUSED) == 1
        world.clock.advance(1.0)
        assert (await ask("/v1/deployment"))[0] == 200

    async def test_others_are_served_meanwhile(self, world: World, ask: Ask) -> None:
        await ask("/v1/deployment")
        spend(world, Subject.ADDRESS)
        assert (await ask("/v1/deployment", "203.0.113.8"))[0] == 200
        assert (await ask("/v1/deployment", None))[0] == 200

    async def test_a_refusal_fills_no_log(self, world: World, ask: Ask) -> None:
        await ask("/v1/deployment")
        spend(world, Subject.ADDRESS)
        for _ in range(10):
            await ask("/v1/deployment")
        assert world.told == []

    @pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
    async def test_operators_are_not_counted(self, world: World, ask: Ask, path: str) -> None:
        await ask("/v1/deployment")
        spend(world, Subject.ADDRESS)
        assert (await ask(path))[0] != 429

    async def test_a_flood_of_addresses_is_bounded(self, world: World, ask: Ask) -> None:
        assert DEFAULTS[Subject.ADDRESS].capacity == 16384
        for who in range(300):
            await ask("/livez", f"2001:db8::{who:x}")
            await ask("/v1/deployment", f"2001:db8::{who:x}")
        assert len(world.service._rates) == 1
