"""The demonstration from beginning to end: nine steps, each of which has to hold.

The operator starts and stops things; owners, model owner and client use their own keys in their own folders;
everything the client relies on comes from `trust.toml`.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s3ml.apps.cluster import ClusterFolder, ClusterOptions, Interruption, LocalCluster, Replica
from s3ml.apps.demo.account import Account, Refusal, hex_excerpt
from s3ml.apps.demo.load import Answer, Outcomes, flow, is_same
from s3ml.apps.demo.roles import SERVICE, ModelOwner, Owners
from s3ml.apps.demo.search import SearchReport, Secret, controls, search
from s3ml.apps.demo.tampering import change_a_byte, claim_measurement
from s3ml.apps.demo.tumours import Tumours, train
from s3ml.apps.demo.wiretap import Wiretap
from s3ml.client import AsyncClient, Client
from s3ml.primitives.errors import UnavailableError

REPLICAS = 3
READY_DEADLINE_S = 60.0
REFUSAL_DEADLINE_S = 30.0
FAILOVER_DEADLINE_S = 30.0
LATENCY_REQUESTS = 1000
SERVED_BY_SUCCESSOR = 50
_SECRET_BYTES = 48

Progress = Callable[[str, float | None], None]


@dataclass(slots=True, kw_only=True)
class _Stage:
    """What the steps hand on to each other."""

    work: Path
    progress: Progress
    durations: dict[str, float] = field(default_factory=dict)
    client_retries: int = 0
    refreshes: int = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Time a step and show that it is under way."""
        self.progress(title, 0.0)
        began = time.perf_counter()
        yield
        self.durations[title] = round(time.perf_counter() - began, 3)
        self.progress(title, 1.0)


def run_demo(work: Path, folder: ClusterFolder, *, progress: Progress, interruption: Interruption) -> Account:
    """Run the whole demonstration.

    Args:
        work: An empty folder for the roles; each has its own below it.
        folder: The operator's folder.
        progress: Told the step under way and its share done; no share means unknown.
        interruption: Puts signals off while processes are started.

    Raises:
        S3MLError: a step could not be made at all. A promise that did not hold is in the account instead.
    """
    began = time.perf_counter()
    stage = _Stage(work=work, progress=progress)
    with stage.step("train on real measurements"):
        tumours = train()
        expected = plaintext_answers(tumours)
    options = ClusterOptions(services=(SERVICE,), replicas=REPLICAS, port=None)
    with contextlib.ExitStack() as stack:
        with stage.step("start a cluster"):
            key_service_tap = _LateWiretap(stack)
            cluster = stack.enter_context(
                LocalCluster(
                    options,
                    folder,
                    report=lambda _line: None,
                    key_service_port_for_replicas=key_service_tap.port_for,
                    held=interruption.held,
                )
            )
            host, port = cluster.endpoints.gateway.removeprefix("http://").split(":")
            gateway_tap = stack.enter_context(Wiretap(host, int(port)))
        trust = _govern(stage, cluster, tumours)
        compared = _compare(stage, gateway_tap, trust, tumours, expected)
        latencies = _measure_latency(stage, cluster, trust, tumours)
        failover = asyncio.run(_fail_over(stage, cluster, trust, tumours, expected))
        refusals = _tamper(stage, cluster)
        report, has_controls = _search(stage, folder, tumours, [gateway_tap, *key_service_tap.taps])
        statistics = cluster.statistics()
    requests = compared.requests + len(latencies) + failover.outcomes.requests
    failed = len(compared.failures) + len(failover.outcomes.failures)
    agreeing = compared.agreeing + failover.outcomes.agreeing
    answered = compared.requests + failover.outcomes.requests
    return Account(
        requests=requests,
        failed=failed,
        agreement=agreeing / answered if answered else 0.0,
        accuracy=tumours.accuracy,
        replica_killed=failover.is_killed,
        replacement_served=failover.served,
        replacement_ready_s=round(failover.ready_s, 3),
        tampered_refused=sum(refusal.is_refused for refusal in refusals),
        refusals=refusals,
        plaintext_found=len(report.findings),
        findings=tuple(f"{finding.secret} in {finding.place}" for finding in report.findings),
        search_controls_found=has_controls,
        searched_places=report.places,
        searched_bytes=report.searched_bytes,
        captured_bytes=gateway_tap.total_bytes + sum(tap.total_bytes for tap in key_service_tap.taps),
        retries_gateway=statistics.retries,
        retries_client=stage.client_retries,
        trust_refreshes=stage.refreshes,
        p50_ms=round(float(np.percentile(latencies, 50)) * 1e3, 3),
        p99_ms=round(float(np.percentile(latencies, 99)) * 1e3, 3),
        duration_s=round(time.perf_counter() - began, 2),
        steps=stage.durations,
        excerpt=_excerpt(gateway_tap),
    )


def plaintext_answers(tumours: Tumours) -> Answer:
    """Return what the plaintext model answers in this process, row by row."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported
    import onnxruntime  # noqa: PLC0415 - heavy

    session = onnxruntime.InferenceSession(tumours.onnx, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"x": row[None]}) for row in tumours.rows]
    return (
        np.concatenate([labels for labels, _ in rows]),
        np.concatenate([probabilities for _, probabilities in rows]),
    )


class _LateWiretap:
    """A wiretap between replicas and the key service, made once the key service's port is known."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._by_port: dict[int, Wiretap] = {}

    @property
    def taps(self) -> tuple[Wiretap, ...]:
        return tuple(self._by_port.values())

    def port_for(self, port: int) -> int:
        if port not in self._by_port:
            self._by_port[port] = self._stack.enter_context(Wiretap("127.0.0.1", port))
        return self._by_port[port].port


def _govern(stage: _Stage, cluster: LocalCluster, tumours: Tumours) -> Path:
    """Owners begin the deployment and sign; the model owner packs; return the trust file."""
    endpoints = cluster.endpoints
    owners = Owners(
        folder=stage.work / "owners", gateway=endpoints.gateway, simulation_root=endpoints.simulation_root
    )
    model_owner = ModelOwner(folder=stage.work / "model-owner")
    with stage.step("owners: genesis, evidence, trust.toml"):
        owners.make_keys()
        trust = owners.begin_deployment()
    with stage.step("owners: sign the policy"):
        owners.sign_policy()
    with stage.step("model owner: pack, encrypt, sign"):
        public = model_owner.make_key()
        grant = model_owner.pack(
            tumours.write(model_owner.folder),
            store=endpoints.store,
            trust=trust,
            gateway=endpoints.gateway,
            progress=lambda done, total: stage.progress(
                "model owner: pack, encrypt, sign", done / total if total else None
            ),
        )
    with stage.step("owners: sign the service"):
        owners.sign_service(grant, public)
    with stage.step("replicas attest and get their keys"):
        for number, replica in enumerate(cluster.replicas):
            stage.progress("replicas attest and get their keys", number / REPLICAS)
            cluster.wait_until_ready(replica, deadline_s=READY_DEADLINE_S)
        _wait_for_gateway(cluster, REPLICAS)
    return trust


def _wait_for_gateway(cluster: LocalCluster, healthy: int) -> None:
    deadline = time.monotonic() + READY_DEADLINE_S
    while sum(upstream.is_healthy for upstream in cluster.upstreams(SERVICE)) < healthy:
        if time.monotonic() > deadline:
            raise UnavailableError("gateway: did not see every replica ready in time")
        time.sleep(0.02)


def _compare(stage: _Stage, tap: Wiretap, trust: Path, tumours: Tumours, expected: Answer) -> Outcomes:
    """Send every held-out row by itself, through the wiretap, and compare with the plaintext model."""
    title = "client: every held-out row, sealed"
    outcomes = Outcomes()
    with stage.step(title), Client(f"http://127.0.0.1:{tap.port}", trust=trust) as client:
        client.verify(SERVICE)
        for row in range(len(tumours.rows)):
            began = time.perf_counter()
            answer = client.infer(SERVICE, {"x": tumours.rows[row : row + 1]})
            outcomes.latencies_s.append(time.perf_counter() - began)
            outcomes.agreeing += is_same(answer, expected, row)
            stage.progress(title, row / len(tumours.rows))
        _count(stage, client)
    return outcomes


def _measure_latency(stage: _Stage, cluster: LocalCluster, trust: Path, tumours: Tumours) -> list[float]:
    """Time single requests, one at a time, straight through the gateway."""
    title = "client: measure latency"
    latencies: list[float] = []
    with stage.step(title), Client(cluster.endpoints.gateway, trust=trust) as client:
        client.infer(SERVICE, {"x": tumours.rows[:1]})
        for number in range(LATENCY_REQUESTS):
            row = number % len(tumours.rows)
            began = time.perf_counter()
            client.infer(SERVICE, {"x": tumours.rows[row : row + 1]})
            latencies.append(time.perf_counter() - began)
            stage.progress(title, number / LATENCY_REQUESTS)
        _count(stage, client)
    return latencies


def _count(stage: _Stage, client: Client | AsyncClient) -> None:
    stage.client_retries += client.statistics.retries
    stage.refreshes += client.statistics.refreshes


@dataclass(slots=True, kw_only=True)
class _Failover:
    outcomes: Outcomes
    is_killed: bool
    ready_s: float
    served: int


async def _fail_over(
    stage: _Stage, cluster: LocalCluster, trust: Path, tumours: Tumours, expected: Answer
) -> _Failover:
    """Kill a replica while requests flow, start another, and go on until that one has served."""
    outcomes = Outcomes()
    over = asyncio.Event()
    with stage.step("kill a replica under load, start another"):
        async with AsyncClient(cluster.endpoints.gateway, trust=trust) as client:
            await client.verify(SERVICE)
            flowing = asyncio.create_task(
                flow(
                    client,
                    service=SERVICE,
                    rows=tumours.rows,
                    expected=expected,
                    is_over=over.is_set,
                    outcomes=outcomes,
                )
            )
            try:
                await asyncio.wait_for(outcomes.under_way.wait(), READY_DEADLINE_S)
                victim = cluster.replicas[0]
                os.kill(victim.pid, signal.SIGKILL)
                successor = await asyncio.to_thread(cluster.start_replica, SERVICE)
                ready_s = await asyncio.to_thread(
                    cluster.wait_until_ready, successor, deadline_s=READY_DEADLINE_S
                )
                served = await _served_by(cluster, successor)
                is_killed = not cluster.is_alive(victim)
                cluster.remove(victim)
            finally:
                over.set()
                await flowing
            _count(stage, client)
    return _Failover(outcomes=outcomes, is_killed=is_killed, ready_s=ready_s, served=served)


async def _served_by(cluster: LocalCluster, successor: Replica) -> int:
    """Wait until the gateway sent the successor its share; return how many requests that is."""
    deadline = time.monotonic() + FAILOVER_DEADLINE_S
    while True:
        upstreams = await asyncio.to_thread(cluster.upstreams, SERVICE)
        served = next((u.requests for u in upstreams if u.address == successor.address), 0)
        if served >= SERVED_BY_SUCCESSOR or time.monotonic() > deadline:
            return served
        await asyncio.sleep(0.02)


def _tamper(stage: _Stage, cluster: LocalCluster) -> tuple[Refusal, ...]:
    """Start a replica changed by a byte, and a changed one that claims the honest measurement."""
    honest = next(replica.measurement for replica in cluster.replicas if replica.is_honest)
    refusals = []
    with stage.step("start changed replicas: they must get no keys"):
        builds = (
            ("changed by one byte", change_a_byte(stage.work / "operator" / "byte"), None),
            ("changed, and lying", claim_measurement(stage.work / "operator" / "liar", honest), honest),
        )
        started = [
            (what, cluster.start_replica(SERVICE, package=package), claim) for what, package, claim in builds
        ]
        for what, replica, claim in started:
            refusals.append(_refusal(cluster, what, replica, claim or replica.measurement, honest))
            cluster.remove(replica)
    return tuple(refusals)


def _refusal(cluster: LocalCluster, what: str, replica: Replica, claims: str, honest: str) -> Refusal:
    """Wait for the key service's refusal, which must name the measurement expected and the one it got."""
    deadline = time.monotonic() + REFUSAL_DEADLINE_S
    detail = ""
    while time.monotonic() < deadline:
        state = cluster.readiness(replica)
        detail = state.detail
        if state.is_ready or "refused" in detail:
            break
        time.sleep(0.02)
    is_refused = not state.is_ready and "refused" in detail and honest in detail and claims in detail
    return Refusal(
        replica=what,
        claims=claims,
        measured=replica.measurement,
        expected=honest,
        reason=detail,
        is_refused=is_refused,
    )


def _search(
    stage: _Stage, folder: ClusterFolder, tumours: Tumours, taps: list[Wiretap]
) -> tuple[SearchReport, bool]:
    """Look through everything that the operator has for a row or a weight."""
    with stage.step("search what the operator could see"):
        secrets = [
            *(
                Secret(name=f"row {number}", value=row[:12].tobytes())
                for number, row in enumerate(tumours.rows[:: len(tumours.rows) // 8])
            ),
            Secret(name="a row as text", value=",".join(map(repr, tumours.rows[0, :4].tolist())).encode()),
            *(
                Secret(name=f"weights {weights.shape}", value=weights.tobytes()[:_SECRET_BYTES])
                for weights in tumours.weights
            ),
        ]
        blobs = [
            (f"traffic, connection {number}", bytes(direction))
            for tap in taps
            for number, capture in enumerate(tap.captures)
            for direction in (capture.sent, capture.received)
        ]
        return search(secrets, folders=[folder.root], blobs=blobs), controls(secrets)


def _excerpt(tap: Wiretap) -> str:
    """Return the first sealed request as the network saw it."""
    for capture in tap.captures:
        start = capture.sent.find(b"POST /services/")
        if start >= 0:
            return hex_excerpt(bytes(capture.sent[start : start + 4096]))
    return ""
