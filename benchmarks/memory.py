"""What a replica of the demonstration's model holds in memory, and how long it takes to be ready.

Memory is read from the kernel's ``smaps_rollup`` of processes that ran as they do in production: the steps in
a process under an enclave's interpreter flags, the whole replica as the simulated platform launched it.
Starts are timed from the operator's call to the first positive readiness, attestation included.

Usage: ``python -m benchmarks.memory [--quick] [--output DIR]``.
"""

import json
import subprocess
import sys
import sysconfig
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.deployment import READY_DEADLINE_S, Deployed, run
from benchmarks.memory_steps import memory_of
from benchmarks.summaries import summary
from s3ml.apps.cluster import LocalCluster, Replica
from s3ml.apps.demo.roles import SERVICE
from s3ml.client import Client
from s3ml.primitives.errors import UnavailableError

AIM_MB, AIM_S = 90.0, 1.5
REPOSITORY = Path(__file__).parents[1]
_POLL_S = 0.002
# Runs a module with the paths of this environment and no site initialisation, as an enclave's start does.
_BOOT = (
    "import sys, runpy; sys.path += {paths!r}; sys.argv = ['memory_steps', {model!r}]; "
    "runpy.run_module('benchmarks.memory_steps', run_name='__main__')"
)


def steps(model: Path) -> list[dict[str, Any]]:
    """Return the memory after each step of a replica's start, in a process of its own."""
    paths = [str(REPOSITORY), str(REPOSITORY / "src"), sysconfig.get_path("purelib")]
    boot = _BOOT.format(paths=paths, model=str(model))
    command = [sys.executable, "-I", "-S", "-B", "-c", boot]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={})
    return [json.loads(line) for line in done.stdout.splitlines()]


def parts(taken: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how much each part of a replica adds."""
    added: dict[str, dict[str, float]] = {}
    before: dict[str, float] = {}
    for step in taken:
        part = added.setdefault(step["part"], {})
        for name in ("rss_mb", "pss_mb", "private_mb", "anonymous_mb"):
            part[name] = round(part.get(name, 0.0) + step[name] - before.get(name, 0.0), 2)
            before[name] = step[name]
    return added


def whole(world: Deployed, requests: int) -> dict[str, Any]:
    """Return the memory of the replica that the platform launched, ready, and after sealed requests."""
    replica = world.cluster.replicas[0]
    readings = {"ready": memory_of(replica.pid)}
    with Client(world.cluster.endpoints.gateway, trust=world.trust) as client:
        for number in range(requests):
            row = number % len(world.tumours.rows)
            client.infer(SERVICE, {"x": world.tumours.rows[row : row + 1]})
    readings[f"after {requests} requests"] = memory_of(replica.pid)
    return readings


def starts(cluster: LocalCluster, count: int) -> list[dict[str, float]]:
    """Start `count` replicas one after the other and return how long each took, by phase."""
    taken = []
    for _ in range(count):
        replica, phases = _start(cluster)
        taken.append(phases)
        cluster.remove(replica)
    return taken


def _start(cluster: LocalCluster) -> tuple[Replica, dict[str, float]]:
    called, called_at = time.monotonic(), time.time()
    replica = cluster.start_replica(SERVICE)
    launched = time.monotonic()
    while not (state := cluster.readiness(replica)).is_ready:
        if time.monotonic() - called > READY_DEADLINE_S:
            raise UnavailableError(f"replica {replica.name}: not ready: {state.detail}")
        time.sleep(_POLL_S)
    ready = time.monotonic()
    events: dict[str, float] = {}
    for line in replica.log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        events.setdefault(event["event"], datetime.fromisoformat(event["time"]).timestamp() - called_at)
    return replica, {
        "launch_call_s": round(launched - called, 4),
        "listening_s": round(events["started"], 4),
        "model_loaded_s": round(events["model-loaded"], 4),
        "granted_s": round(events["granted"], 4),
        "ready_s": round(ready - called, 4),
    }


def measure(world: Deployed, *, is_quick: bool) -> dict[str, Any]:
    """Return memory by part and as a whole, and how long starts take."""
    print("memory: step by step", flush=True)
    taken = steps(world.model)
    print("memory: the whole replica", flush=True)
    readings = whole(world, 20 if is_quick else 2000)
    print("memory: starts of replicas", flush=True)
    started = starts(world.cluster, 1 if is_quick else 11)
    ready = summary([one["ready_s"] for one in started])
    resident = readings["ready"]["rss_mb"]
    return {
        "steps": taken,
        "parts": parts(taken),
        "replica": readings,
        "starts": {name: summary([one[name] for one in started]) for name in started[0]},
        "starts_raw": started,
        "aims": [
            {
                "aim": "resident memory of a replica",
                "unit": "MB",
                "below": AIM_MB,
                "got": resident,
                "is_met": resident < AIM_MB,
            },
            {
                "aim": "start to ready, attested",
                "unit": "s",
                "below": AIM_S,
                "got": ready["median"],
                "is_met": ready["median"] < AIM_S,
            },
        ],
    }


if __name__ == "__main__":
    run({"memory": measure}, __doc__)
