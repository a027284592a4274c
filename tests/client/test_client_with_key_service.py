"""The client with a real key service, real evidence and really released keys: nothing of trust is faked."""

import http.client
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from s3ml.attestation import encode_policy
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.client import Client, Trust, UnknownServiceError
from s3ml.client.steps import HTTPReply, HTTPRequest
from s3ml.keyservice.client import TrustBundleRejectedError
from s3ml.keyservice.documents import TrustBundleRequest
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.client.real_key_service import (
    KEY_SERVICE_CODE,
    REPLICA_CODE,
    Deployment,
    key_service,
)
from tests.client.servers import WorldServer
from tests.client.world import SERVICE, World

ROWS = np.array([[1.0, 2.0]], dtype=np.float32)


@dataclass(slots=True)
class RealTrustWorld(World):
    """A world whose trust bundles come from a real key service."""

    url: str = ""

    def _bundle(self, request: HTTPRequest) -> HTTPReply:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)
        try:
            connection.request(
                "POST", "/v1/trust-bundle", request.body, {"content-type": request.content_type}
            )
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.getheaders()}
            return HTTPReply(
                status=reply.status,
                headers={"content-type": headers["content-type"]},
                body=reply.read(),
            )
        finally:
            connection.close()


@dataclass(slots=True)
class Setting:
    """Everything that runs, and where its state lies."""

    world: RealTrustWorld
    server: WorldServer
    deployment: Deployment
    folder: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def trust(self) -> Trust:
        return Trust(
            deployment=self.deployment.genesis.deployment,
            key_service_policy=self.deployment.policy(KEY_SERVICE_CODE),
            allow_simulated=True,
            services={SERVICE: self.deployment.policy(REPLICA_CODE)},
        )


@pytest.fixture(scope="module")
def pki() -> SimulatedPKI:
    return SimulatedPKI.create(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def setting(tmp_path: Path, pki: SimulatedPKI) -> Iterator[Setting]:
    with key_service(tmp_path, pki) as url:
        deployment = Deployment(url, pki)
        deployment.serve()
        world = RealTrustWorld(clock=SystemClock(), url=url)
        world.ring = deployment.released_ring()
        server = WorldServer(world)
        yield Setting(world=world, server=server, deployment=deployment, folder=tmp_path)
        server.close()
        deployment.client.close()


class TestHonestDeployment:
    """A service is verified from the trust file alone, and answers."""

    def test_it_is_verified_and_answers(self, setting: Setting, tmp_path: Path) -> None:
        setting.trust.write(tmp_path / "trust.toml")
        with Client(setting.url, tmp_path / "trust.toml") as client:
            verified = client.verify(SERVICE)
            assert [step.number for step in verified.steps] == list(range(1, 13))
            assert (verified.is_simulated, verified.is_fork_protected) == (True, False)
            assert client.infer(SERVICE, {"x": ROWS})["y"].tolist() == [[2.0, 4.0]]

    def test_following_the_owners_needs_no_policy_of_ones_own(self, setting: Setting) -> None:
        trust = replace(setting.trust, services={}, follow="owners")
        with Client(setting.url, trust) as client:
            assert client.infer(SERVICE, {"x": ROWS})["y"].tolist() == [[2.0, 4.0]]

    def test_a_log_that_grew_is_followed(self, setting: Setting) -> None:
        with Client(setting.url, setting.trust) as client:
            before = client.verify(SERVICE).log_size
            setting.deployment.put("policies/other", _policy(setting))
            assert client.verify(SERVICE).log_size > before

    def test_a_new_epoch_is_found_without_the_caller(self, setting: Setting) -> None:
        """A service that is signed anew gets new keys; the client finds out by the gateway's refusal."""
        with Client(setting.url, setting.trust) as client:
            client.infer(SERVICE, {"x": ROWS})
            setting.deployment.put("policies/replicas", b"# the same\n" + _policy(setting))
            setting.deployment.serve()
            setting.world.ring = setting.deployment.released_ring()
            assert client.infer(SERVICE, {"x": ROWS})["y"].tolist() == [[2.0, 4.0]]
            assert client.statistics.refreshes == 2


class TestDistrust:
    """Each of these breaks one thing, and nothing is sealed to anybody."""

    @staticmethod
    def refused(setting: Setting, trust: Trust) -> TrustBundleRejectedError:
        with Client(setting.url, trust) as client, pytest.raises(TrustBundleRejectedError) as refused:
            client.infer(SERVICE, {"x": ROWS})
        assert setting.world.sealed_bodies == []
        return refused.value

    def test_another_deployment(self, setting: Setting) -> None:
        refused = self.refused(setting, replace(setting.trust, deployment="ab" * 32))
        assert refused.number == 2
        assert "ab" * 32 in str(refused)

    def test_another_key_service_names_expected_and_got(self, setting: Setting) -> None:
        policy = setting.deployment.policy(b"\x01" * 32)
        refused = self.refused(setting, replace(setting.trust, key_service_policy=policy))
        assert refused.number == 4
        assert [mismatch.claim for mismatch in refused.mismatches] == ["measurement"]
        assert KEY_SERVICE_CODE.hex() in refused.mismatches[0].got

    def test_a_policy_wider_than_ones_own(self, setting: Setting) -> None:
        own = {SERVICE: setting.deployment.policy(b"\x01" * 32)}
        refused = self.refused(setting, replace(setting.trust, services=own))
        assert refused.number == 10
        assert REPLICA_CODE.hex() in str(refused)

    def test_an_answer_to_another_nonce(self, setting: Setting) -> None:
        kept: list[HTTPReply] = []
        world = setting.world
        world.bundles.append(lambda request: kept.append(world._bundle(request)))
        with Client(setting.url, setting.trust) as client:
            client.verify(SERVICE)
        world.bundles.append(lambda _: kept[0])
        assert self.refused(setting, setting.trust).number == 4

    def test_a_log_that_was_rolled_back_and_went_on(
        self, setting: Setting, tmp_path: Path, pki: SimulatedPKI
    ) -> None:
        """The host brings an older database back: the key service goes on from there, which is a fork."""
        back_up(tmp_path, tmp_path / "older")
        setting.deployment.put("policies/other", _policy(setting))
        with Client(setting.url, setting.trust, log_state=tmp_path / "log.json") as client:
            client.verify(SERVICE)
            with key_service(tmp_path / "older", pki) as older:
                setting.world.url = older
                with pytest.raises(TrustBundleRejectedError) as refused:
                    client.verify(SERVICE)
        assert (refused.value.number, refused.value.title) == (8, "history of the log")

    def test_a_log_that_was_rolled_back_is_refused_by_another_process_too(
        self, setting: Setting, tmp_path: Path, pki: SimulatedPKI
    ) -> None:
        back_up(tmp_path, tmp_path / "older")
        for name in "abcdef":  # more than the entries of a restart
            setting.deployment.put(f"policies/{name}", _policy(setting))
        with Client(setting.url, setting.trust, log_state=tmp_path / "log.json") as client:
            client.verify(SERVICE)
        with key_service(tmp_path / "older", pki) as older:
            setting.world.url = older
            with (
                Client(setting.url, setting.trust, log_state=tmp_path / "log.json") as client,
                pytest.raises(UnavailableError, match="older log than you have seen"),
            ):
                client.infer(SERVICE, {"x": ROWS})
        assert setting.world.sealed_bodies == []

    def test_a_gateway_that_hides_what_was_known(
        self, setting: Setting, tmp_path: Path, pki: SimulatedPKI
    ) -> None:
        """The key service then proves nothing, and the client notices."""
        world = setting.world

        def hidden(request: HTTPRequest) -> HTTPReply:
            asked = msgspec.json.decode(request.body, type=TrustBundleRequest)
            body = msgspec.json.encode(msgspec.structs.replace(asked, known_size=None))
            return world._bundle(replace(request, body=body))

        with Client(setting.url, setting.trust) as client:
            client.verify(SERVICE)
            setting.deployment.put("policies/other", _policy(setting))
            world.bundles.append(hidden)
            with pytest.raises(TrustBundleRejectedError) as refused:
                client.verify(SERVICE)
        assert refused.value.number == 8

    def test_a_service_that_it_does_not_have(self, setting: Setting) -> None:
        trust = replace(setting.trust, follow="owners")
        with Client(setting.url, trust) as client, pytest.raises(UnknownServiceError, match="'birds'"):
            client.verify("birds")

    def test_a_service_that_the_trust_file_does_not_cover(self, setting: Setting) -> None:
        with (
            Client(setting.url, setting.trust) as client,
            pytest.raises(ConfigurationError, match="nothing says what to accept"),
        ):
            client.verify("birds")
        assert setting.world.seen == []


def back_up(source: Path, destination: Path) -> None:
    """Copy an idle database with its write-ahead log, as any host can."""
    destination.mkdir()
    for file in source.glob("key-service.db*"):
        shutil.copy(file, destination)


def _policy(setting: Setting) -> bytes:
    return encode_policy(setting.deployment.policy(REPLICA_CODE))
