"""The client before the real gateway: a replica that dies costs its caller nothing."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from s3ml.client import AsyncClient, Client, DeadlineExceededError, InvalidInputError, UnknownServiceError
from s3ml.gateway import EnvoyGateway, GatewayConfig
from tests.client.servers import WorldServer
from tests.client.world import SERVICE, TRUST, World

pytestmark = pytest.mark.integration

ROWS = np.array([[1.0, 2.0]], dtype=np.float32)


@pytest.fixture
def replicas(live_world: World) -> Iterator[list[WorldServer]]:
    """Three replicas, the first of which is the key service too."""
    made = [WorldServer(live_world) for _ in range(3)]
    yield made
    for replica in made:
        replica.close()


@pytest.fixture
def gateway(replicas: list[WorldServer], tmp_path: Path) -> Iterator[EnvoyGateway]:
    """Every replica is in; asked seldom, none leaves because this process was starved."""
    config = GatewayConfig(
        folder=tmp_path / "g",
        services=(SERVICE, "birds"),
        max_request_bytes=65_536,
        health_interval_s=30.0,
    )
    with EnvoyGateway(config) as running:
        running.set_key_service([replicas[0].address])
        running.set_replicas(SERVICE, [replica.address for replica in replicas])
        deadline_s = time.monotonic() + 180
        while sum(one.is_healthy for one in (*running.key_services(), *running.replicas(SERVICE))) < 4:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        yield running


class TestThroughEnvoy:
    """What the gateway answers by itself is understood, and what it cannot send again is."""

    def test_arrays_in_arrays_out(self, gateway: EnvoyGateway) -> None:
        with Client(gateway.url, TRUST) as client:
            assert client.infer(SERVICE, {"x": ROWS})["y"].tolist() == [[2.0, 4.0]]

    async def test_no_request_fails_while_a_replica_dies(
        self, gateway: EnvoyGateway, replicas: list[WorldServer]
    ) -> None:
        async with AsyncClient(gateway.url, TRUST) as client:
            for number in range(60):
                if number == 20:
                    replicas[1].close()
                assert (await client.infer(SERVICE, {"x": ROWS}))["y"].tolist() == [[2.0, 4.0]]
            assert client.statistics.requests == 60

    def test_an_answer_that_never_came_is_asked_for_again(
        self, gateway: EnvoyGateway, replicas: list[WorldServer]
    ) -> None:
        """The gateway must not repeat what a replica read; the client does, sealed afresh."""

        def cut(handler: BaseHTTPRequestHandler) -> None:
            handler.close_connection = True

        with Client(gateway.url, TRUST) as client:
            client.verify(SERVICE)
            for replica in replicas:
                replica.raw.append(cut)
            assert client.infer(SERVICE, {"x": ROWS})["y"].tolist() == [[2.0, 4.0]]
            assert 1 <= client.statistics.retries <= 3
        assert gateway.statistics().retries == 0

    def test_no_replica_is_waited_for_within_the_deadline(self, gateway: EnvoyGateway) -> None:
        gateway.set_replicas(SERVICE, [])
        with Client(gateway.url, TRUST) as client:
            client.verify(SERVICE)
            with pytest.raises(DeadlineExceededError, match="no replica is ready"):
                client.infer(SERVICE, {"x": ROWS}, timeout_s=3.0)

    def test_a_replica_that_comes_in_time_answers(
        self, gateway: EnvoyGateway, replicas: list[WorldServer]
    ) -> None:
        gateway.set_replicas(SERVICE, [])
        with Client(gateway.url, TRUST) as client:
            client.verify(SERVICE)
            timer = threading.Timer(0.1, gateway.set_replicas, (SERVICE, [replicas[2].address]))
            timer.start()
            assert client.infer(SERVICE, {"x": ROWS})["y"].tolist() == [[2.0, 4.0]]
            timer.join()

    def test_a_service_that_is_not_routed_to(self, gateway: EnvoyGateway) -> None:
        with Client(gateway.url, TRUST) as client, pytest.raises(UnknownServiceError, match="'fish'"):
            client.verify("fish")

    def test_a_request_above_the_gateways_limit(self, gateway: EnvoyGateway) -> None:
        rows = np.zeros((40_000, 2), np.float32)
        with Client(gateway.url, TRUST) as client, pytest.raises(InvalidInputError, match="more than the"):
            client.infer(SERVICE, {"x": rows})
