"""The demonstration from beginning to end: nine steps, each of which has to hold.

The operator starts and stops things; owners, model owner and client use their own keys in their own folders;
everything the client relies on comes from `trust.toml`.
"""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3ml.apps.cluster import ClusterFolder, ClusterOptions, Interruption, LocalCluster, Replica
from s3ml.apps.demo.account import Account, Refusal, hex_excerpt
from s3ml.apps.demo.failover import Failover, fail_over
from s3ml.apps.demo.load import Answer, Outcomes, is_same
from s3ml.apps.demo.roles import SERVICE, ModelOwner, Owners
from s3ml.apps.demo.search import SearchReport, Secret, controls, search
from s3ml.apps.demo.stage import Progress, Stage
from s3ml.apps.demo.tampering import change_a_byte, claim_measurement
from s3ml.apps.demo.tumours import Tumours, train
from s3ml.apps.demo.wiretap import Wiretap
from s3ml.client import Client
from s3ml.primitives.errors import UnavailableError

REPLICAS = 3
READY_DEADLINE_S = 60.0
REFUSAL_DEADLINE_S = 30.0
LATENCY_REQUESTS = 1000
_SECRET_BYTES = 48


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
    stage = Stage(work=work, progress=progress)
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
        seen = _Seen(
            compared=_compare(stage, gateway_tap, trust, tumours, expected),
            latencies=_measure_latency(stage, cluster, trust, tumours),
            failover=asyncio.run(fail_over(stage, cluster, trust, tumours, expected)),
            refusals=_tamper(stage, cluster),
            taps=(gateway_tap, *key_service_tap.taps),
            retries_gateway=cluster.statistics().retries,
        )
        report, has_controls = _search(stage, folder, tumours, seen.taps)
    return _account(
        stage, tumours, seen, report, has_controls=has_controls, duration_s=time.perf_counter() - began
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the steps between the owners' signatures and the search brought to light."""

    compared: Outcomes
    latencies: list[float]
    failover: Failover
    refusals: tuple[Refusal, ...]
    taps: tuple[Wiretap, ...]
    retries_gateway: int


def _account(
    stage: Stage,
    tumours: Tumours,
    seen: _Seen,
    report: SearchReport,
    *,
    has_controls: bool,
    duration_s: float,
) -> Account:
    """Add up what was seen."""
    failover, compared = seen.failover, seen.compared
    answered = compared.requests + failover.outcomes.requests
    agreeing = compared.agreeing + failover.outcomes.agreeing
    return Account(
        requests=answered + len(seen.latencies),
        failed=len(compared.failures) + len(failover.outcomes.failures),
        agreement=agreeing / answered if answered else 0.0,
        accuracy=tumours.accuracy,
        replica_killed=failover.is_killed,
        replacement_served=failover.served,
        replacement_ready_s=round(failover.ready_s, 3),
        tampered_refused=sum(refusal.is_refused for refusal in seen.refusals),
        refusals=seen.refusals,
        plaintext_found=len(report.findings),
        findings=tuple(f"{finding.secret} in {finding.place}" for finding in report.findings),
        search_controls_found=has_controls,
        searched_places=report.places,
        searched_bytes=report.searched_bytes,
        captured_bytes=sum(tap.total_bytes for tap in seen.taps),
        retries_gateway=seen.retries_gateway,
        retries_client=stage.client_retries,
        trust_refreshes=stage.refreshes,
        p50_ms=round(float(np.percentile(seen.latencies, 50)) * 1e3, 3),
        p99_ms=round(float(np.percentile(seen.latencies, 99)) * 1e3, 3),
        duration_s=round(duration_s, 2),
        steps=stage.durations,
        excerpt=_excerpt(seen.taps[0]),
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


def _govern(stage: Stage, cluster: LocalCluster, tumours: Tumours) -> Path:
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


def _compare(stage: Stage, tap: Wiretap, trust: Path, tumours: Tumours, expected: Answer) -> Outcomes:
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
        stage.count(client)
    return outcomes


def _measure_latency(stage: Stage, cluster: LocalCluster, trust: Path, tumours: Tumours) -> list[float]:
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
        stage.count(client)
    return latencies


def _tamper(stage: Stage, cluster: LocalCluster) -> tuple[Refusal, ...]:
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
    stage: Stage, folder: ClusterFolder, tumours: Tumours, taps: tuple[Wiretap, ...]
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
