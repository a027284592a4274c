"""What an agent answers: readings, metrics, health; from what was sampled last."""

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory import Counts, Kind, Sampler, decode
from s3ml.tee_memory.application import create_app
from s3ml.tee_memory.metrics import AgentMetrics
from s3ml.tee_memory.simulated import SimulatedServers, SimulatedSource
from tests.clocks import FakeClock

COUNTS = Counts(
    taken_at_s=0,
    capacity_bytes=93 * 2**20,
    resident_bytes=90 * 2**20,
    evicted_bytes=4096,
    page_ins=7,
    page_outs=9,
    stalled_s=0.5,
)
SERVER = Counts(taken_at_s=0, page_ins=3)


class World:
    def __init__(self, counts: Counts = COUNTS) -> None:
        self.clock = FakeClock()
        self.fault: Exception | None = None
        self.counts = counts
        servers = SimulatedServers({"a": lambda _: SERVER}, self.clock)
        source = SimulatedSource(self._count, self.clock)
        self.sampler = Sampler("n1", source, self.clock, interval_s=1.0, servers=servers)

    def _count(self, _now_s: float) -> Counts:
        if self.fault is not None:
            raise self.fault
        return self.counts

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "http_version": "1.1",
        }
        await create_app(self.sampler)(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = AgentMetrics(self.sampler).render().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def world() -> World:
    return World()


class TestAnswers:
    """Each path answers its question."""

    async def test_readings(self, world: World) -> None:
        world.sampler.sample()
        world.clock.advance(2.0)
        status, headers, body = await world.get("/v1/readings")

        found = decode(body)
        assert found.reading is not None
        assert (status, headers["content-type"]) == (200, "application/json")
        assert headers["cache-control"] == "no-store"
        assert (found.reading.age_s, found.is_simulated) == (2.0, True)

    async def test_it_lives(self, world: World) -> None:
        assert (await world.get("/livez"))[0] == 200

    async def test_it_is_not_ready_before_the_first_reading(self, world: World) -> None:
        assert (await world.get("/readyz"))[0] == 503

    async def test_it_is_ready_while_readings_are_new(self, world: World) -> None:
        world.sampler.sample()
        world.clock.advance(4.0)
        assert (await world.get("/readyz"))[0] == 200
        world.clock.advance(0.1)

        status, _, body = await world.get("/readyz")
        assert (status, json.loads(body)["is_ready"]) == (503, False)

    async def test_why_it_is_not_ready(self, world: World) -> None:
        world.fault = UnavailableError("no tracefs")
        world.sampler.sample()

        assert json.loads((await world.get("/readyz"))[2])["error"] == "no tracefs"

    async def test_metrics(self, world: World) -> None:
        _, headers, body = await world.get("/metrics")

        assert headers["content-type"].startswith("text/plain")
        assert b"s3ml_tee_memory_info" in body

    @pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/v1/readings", "POST", 405)])
    async def test_nothing_else(self, world: World, path: str, method: str, status: int) -> None:
        assert (await world.get(path, method))[0] == status


class TestMetrics:
    """Counts as they were read, and what they are."""

    OWN = frozenset({("node", "n1"), ("kind", "simulated")})

    def test_the_nodes(self, world: World) -> None:
        world.sampler.sample()
        world.clock.advance(1.5)
        samples = world.samples()

        expected = {
            "capacity_bytes": 93 * 2**20,
            "resident_bytes": 90 * 2**20,
            "evicted_bytes": 4096,
            "page_ins_total": 7,
            "page_outs_total": 9,
            "stalled_seconds_total": 0.5,
            "reading_age_seconds": 1.5,
        }
        assert {name: samples[f"s3ml_tee_memory_{name}", self.OWN] for name in expected} == expected

    def test_the_servers(self, world: World) -> None:
        world.sampler.sample()
        samples = world.samples()
        own = self.OWN | {("server", "a")}

        assert samples["s3ml_tee_memory_server_page_ins_total", own] == 3
        assert ("s3ml_tee_memory_server_evicted_bytes", own) not in samples

    def test_every_sample_says_that_it_is_simulated(self, world: World) -> None:
        world.sampler.sample()

        for name, labels in world.samples():
            assert ("kind", "simulated") in labels or name.startswith("process_")

    def test_what_is_read_and_how(self, world: World) -> None:
        world.sampler.sample()
        more = {("source", "simulated model"), ("confidence", "counted")}

        assert world.samples()["s3ml_tee_memory_info", self.OWN | more] == 1

    def test_what_is_not_known_has_no_sample(self) -> None:
        world = World(Counts(taken_at_s=0))
        world.sampler.sample()
        names = {name for name, _ in world.samples()}

        assert not names & {"s3ml_tee_memory_capacity_bytes", "s3ml_tee_memory_guests"}

    def test_guests(self) -> None:
        world = World(Counts(taken_at_s=0, guests=2, guests_capacity=31))
        world.sampler.sample()
        samples = world.samples()

        assert samples["s3ml_tee_memory_guests", self.OWN] == 2
        assert samples["s3ml_tee_memory_guests_capacity", self.OWN] == 31

    def test_failures_are_counted(self, world: World) -> None:
        world.sampler.sample()
        world.fault = UnavailableError("no")
        world.sampler.sample()
        samples = world.samples()

        outcomes = {
            outcome: samples["s3ml_tee_memory_samples_total", self.OWN | {("outcome", outcome)}]
            for outcome in ("taken", "failed")
        }
        assert outcomes == {"taken": 1, "failed": 1}

    def test_before_the_first_reading(self, world: World) -> None:
        names = {name for name, _ in world.samples()}

        assert "s3ml_tee_memory_info" in names
        assert world.sampler.source.kind is Kind.SIMULATED
