"""Attacks over HTTP: replays, messages for others, look-alike names, floods, slow and huge bodies."""

import hashlib
import itertools
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

import msgspec
import pytest
import urllib3

from s3ml.apps.cluster.process import LOOPBACK
from s3ml.keyservice.client import KeyServiceClient, KeyServiceRefusedError, control_message
from s3ml.keyservice.documents import (
    ChallengeRequest,
    ControlMessage,
    Owner,
    OwnersDocument,
    TrustBundleRequest,
)
from s3ml.keyservice.fields import CONTROL_LIMIT_BYTES
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.signing import SigningKey
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import DEADLINE_S, Platform, eventually
from tests.replication.people import SERVICE, People
from tests.replication.settings import Setting, begun

pytestmark = pytest.mark.integration
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def setting(platform: Platform, postgres: PostgresServer) -> Iterator[Setting]:
    """Two replicas, no witnesses."""
    with begun(platform, postgres, replicas=2) as found:
        yield found


class TestReplay:
    """A message that was sent before changes nothing, whoever sends it again and wherever."""

    def test_of_every_control_message(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        number = next(_numbers)
        sent: list[ControlMessage] = []

        def send(message: ControlMessage) -> None:
            fleet.client(len(sent) % 2).control(message)
            sent.append(message)

        for version in range(2):
            send(people.draft(f"policies/replayed-{number}", people.policy_body(secrets.token_bytes(32))))
            send(people.rotation("drain" if version else "discard"))
        extra = SigningKey.generate()
        owners = tuple(
            Owner(name=name, key=str(key.public))
            for name, key in zip(("ann", "ben", "cleo", "dan"), (*people.owners, extra), strict=True)
        )
        send(people.draft("deployment/owners", encode_document(OwnersDocument(owners=owners, threshold=2))))
        send(
            people.draft("deployment/owners", encode_document(OwnersDocument(owners=owners[:3], threshold=2)))
        )
        deletion = delete(people, f"policies/replayed-{number}")
        send(deletion)

        before, standing = [setting.places_of(m) for m in sent], people.resources()
        assert all(len(places) == 1 for places in before)
        for message in sent:
            for replica in (0, 1):
                try:
                    reply = fleet.client(replica).control(message)
                except KeyServiceRefusedError as error:
                    assert error.status == 409, error
                else:
                    assert [reply.index] == setting.places_of(message)
        assert [setting.places_of(m) for m in sent] == before
        assert people.resources() == standing


def delete(people: People, resource: str) -> ControlMessage:
    """Draft a deletion."""
    draft = people.draft(resource, b"")
    statement = msgspec.json.decode(draft.statement.payload)
    statement["method"] = "DELETE"
    envelope = msgspec.structs.replace(draft.statement, payload=json.dumps(statement).encode(), signatures=())
    return msgspec.structs.replace(draft, statement=people.signed(envelope))


class TestForAnother:
    """A message holds for its deployment, its version, its body and its owners, or not at all."""

    def signed(self, people: People, *keys: SigningKey, **changes: object) -> ControlMessage:
        body = people.policy_body()
        fields: dict[str, object] = {
            "deployment": people.begun.deployment,
            "resource": f"policies/aimed-{next(_numbers)}",
            "resource_version": 1,
            "previous_sha256": "",
            "body": body,
            "nonce": secrets.token_bytes(32),
            "now": datetime.now(UTC),
            **changes,
        }
        message = control_message(**fields)  # type: ignore[arg-type]
        envelope = message.statement
        for key in keys or people.owners[:2]:
            envelope = envelope.with_signature(key)
        return msgspec.structs.replace(message, statement=envelope)

    @pytest.mark.parametrize(
        "change",
        [
            {"deployment": "0" * 64},
            {"resource_version": 2},
            {"resource_version": 2**62},
            {"previous_sha256": hashlib.sha256(b"").hexdigest()},
        ],
        ids=lambda change: next(iter(change)) + "=" + str(next(iter(change.values())))[:8],
    )
    def test_deployment_version_and_predecessor(self, setting: Setting, change: dict[str, object]) -> None:
        message = self.signed(setting.people, **change)
        with pytest.raises(KeyServiceRefusedError) as refused:
            setting.fleet.client(0).control(message)
        assert refused.value.status in {403, 409}
        assert setting.places_of(message) == []

    def test_another_body_and_other_signers(self, setting: Setting) -> None:
        people, client = setting.people, setting.fleet.client(1)
        honest = self.signed(people)
        stranger = SigningKey.generate()
        for message in (
            msgspec.structs.replace(honest, body=people.policy_body(secrets.token_bytes(32))),
            self.signed(people, people.owners[0]),
            self.signed(people, people.owners[0], people.owners[0]),
            self.signed(people, people.owners[0], stranger),
            self.signed(people, stranger),
        ):
            with pytest.raises(KeyServiceRefusedError) as refused:
                client.control(message)
            assert refused.value.status in {400, 403}
            assert setting.places_of(message) == []


NAMES = [
    "policies/..",
    "policies/.",
    "policies/../services/tumours",
    "policies/a/../models",
    "policies/models/",
    "policies//models",
    "/policies/models",
    "policies/models\n",
    "policies/models\x00",
    "policies/models%2f",
    "policies/Models",
    "policies/m\u043edels",  # a Cyrillic letter
    "p\u043elicies/models",
    "policies/\uff4dodels",  # a full-width letter, which NFKC folds
    "policies/mode\u0142s",
    "policies/models\u200b",  # a space of no width
    "policies/mo\u0308dels",
    "policies/-models",
    "policies/models-",
    "policies/" + "a" * 64,
    "deployment/owner",
    "deployment/owners2",
    "deployment/",
    "policies",
    "",
]

NEW = ("policies/model", "policies/models-2", "policies/m")


class TestNames:
    """A name is a plain one, and is not another that looks like it or begins like it."""

    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    def test_names_that_are_none(self, setting: Setting, name: str) -> None:
        standing = setting.people.resources()
        message = TestForAnother().signed(setting.people, resource=name)
        with pytest.raises(KeyServiceRefusedError) as refused:
            setting.fleet.client(0).control(message)
        assert refused.value.status == 400
        assert "\n" not in str(refused.value)
        assert setting.places_of(message) == []
        assert setting.people.resources() == standing

    def test_services_that_are_none(self, setting: Setting) -> None:
        client = setting.fleet.client(1)
        for name in (SERVICE[:-1], f"{SERVICE}-2", "..", "tum\u043eurs", SERVICE.upper(), f"{SERVICE}/", ""):
            with pytest.raises(KeyServiceRefusedError) as refused:
                client.challenge(ChallengeRequest(role="model-server", service=name))
            assert refused.value.status in {400, 404}
            with pytest.raises(KeyServiceRefusedError) as refused:
                client.trust_bundle(TrustBundleRequest(service=name, nonce=bytes(32)))
            assert refused.value.status in {400, 404}

    def test_names_that_begin_like_others_are_others(self, setting: Setting) -> None:
        fleet, people = setting.fleet, setting.people
        whole = people.resources()["policies/models"]
        for name in NEW:
            people.change(name, people.policy_body())
        assert people.resources(1)["policies/models"] == whole
        fleet.client(0).control(delete(people, "policies/models-2"))
        eventually(
            lambda: {"policies/model", "policies/m"} == {*people.resources(1)} & {*NEW},
            what="those that are left",
        )
        assert people.resources(1)["policies/models"] == whole


ROUTES = [
    ("POST", "/v1/genesis"),
    ("POST", "/v1/control"),
    ("POST", "/v1/acknowledge"),
    ("POST", "/v1/challenge"),
    ("POST", "/v1/release"),
    ("POST", "/v1/trust-bundle"),
    ("POST", "/v1/join/offer"),
    ("POST", "/v1/join"),
    ("GET", "/v1/deployment"),
    ("GET", "/v1/resources"),
    ("GET", "/v1/authority"),
    ("GET", "/v1/status"),
    ("GET", "/v1/entries?start=0&end=256"),
    ("GET", "/v1/checkpoint"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]
FLOODERS = 24
SLOW, SLOW_LIMIT = 1200, 6000


def honest_works(setting: Setting, number: int = 0) -> None:
    """Do what owners, model servers and clients do, as they retry."""
    people, fleet = setting.people, setting.fleet
    session, name = people.session(), f"policies/honest-{next(_numbers)}"
    steps: tuple[Callable[[], object], ...] = (
        lambda: people.bundle(number),
        lambda: people.release(session, fleet.client(number)),
        lambda: people.resources(number),
        lambda: people.change(name, people.policy_body(), at=number),
    )
    for step in steps:
        eventually(step, what="an honest request that is answered")


class TestFloods:
    """Whatever is poured onto a route: every reply is bounded, and honest requests are answered."""

    def test_every_route(self, setting: Setting) -> None:
        port = setting.fleet.members[0].port
        over = threading.Event()
        statuses: set[int] = set()
        junk = [b"", b"{}", b"[" * 5000, secrets.token_bytes(2000), b'{"service":"' + b"a" * 9000 + b'"}']

        def pour(first: int) -> None:
            pool = urllib3.HTTPConnectionPool(LOOPBACK, port, maxsize=1, retries=False, timeout=DEADLINE_S)
            turn = first
            while not over.is_set():
                method, path = ROUTES[turn % len(ROUTES)]
                body = junk[turn % len(junk)] if method == "POST" else None
                turn += 1
                try:
                    statuses.add(pool.request(method, path, body=body).status)
                except urllib3.exceptions.HTTPError:
                    statuses.add(0)
            pool.close()

        with ThreadPoolExecutor(FLOODERS) as threads:
            flood = [threads.submit(pour, first) for first in range(FLOODERS)]
            try:
                honest_works(setting)
            finally:
                over.set()
            for one in flood:
                one.result()
        assert statuses <= {200, 400, 403, 404, 409, 413, 429, 503}, statuses
        setting.fleet.until_serving()

    def test_open_offers_and_challenges_close_the_door_to_nobody(self, setting: Setting) -> None:
        """The tables of what is open are bounded, and filling them turns nobody away."""
        client = setting.fleet.client(0)
        request = ChallengeRequest(role="model-server", service=SERVICE)

        def ask(_: int) -> None:
            client.challenge(request)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(4200)))
        honest_works(setting)


class TestBodies:
    """A body is refused by its length, and by the time that it takes."""

    def test_too_large(self, setting: Setting) -> None:
        port = setting.fleet.members[0].port
        announced = _reply(port, b"content-length: %d\r\n\r\n" % (CONTROL_LIMIT_BYTES + 1))
        assert b" 413 " in announced
        negative = _reply(port, b"content-length: -1\r\n\r\n")
        assert b" 400 " in negative or b" 413 " in negative
        chunk = b"%x\r\n" % 65536 + b"a" * 65536 + b"\r\n"
        sent = _reply(
            port, b"transfer-encoding: chunked\r\n\r\n" + chunk * (CONTROL_LIMIT_BYTES // 65536 + 1)
        )
        assert b" 413 " in sent
        honest_works(setting)

    def test_slow_ones_hold_up_nobody(self, setting: Setting) -> None:
        port = setting.fleet.members[0].port
        paths = [path for method, path in ROUTES if method == "POST"]
        with ExitStack() as stack, ThreadPoolExecutor(1) as thread:
            over = threading.Event()

            def begin(number: int) -> None:
                slow = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=DEADLINE_S))
                head = b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n{"
                slow.sendall(head % paths[number % len(paths)].encode())

            def begin_more() -> None:
                """Whoever waits until the first ones are given up never has his turn."""
                for number in range(SLOW, SLOW_LIMIT):
                    if over.wait(0.005):
                        return
                    begin(number)

            for number in range(SLOW):
                begin(number)
            more = thread.submit(begin_more)
            try:
                honest_works(setting)
            finally:
                over.set()
            more.result()


def _reply(port: int, rest: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=DEADLINE_S) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it was refused before all was sent
            connection.sendall(b"POST /v1/control HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + rest)
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


def test_a_client_keeps_its_connection(setting: Setting) -> None:
    """What was refused is no reason to end a connection."""
    client = KeyServiceClient(setting.fleet.members[0].url)
    for _ in range(3):
        with pytest.raises(KeyServiceRefusedError):
            client.challenge(ChallengeRequest(role="model-server", service="nobody"))
    client.close()
