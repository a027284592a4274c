"""S3ML, sealed, against its peers, plaintext: the same models, inputs, load, Envoy and cores, in turns.

Every server is pinned to core 0 and has it to itself, but for what else the machine does; the load and Envoy
share core 1. All servers of a model run from beginning to end; a cell is one server at one concurrency,
encoding and way (direct, or through Envoy), and within a round all servers take turns in every cell, in an
order that reverses from round to round. Figures are medians over the rounds.

Usage: ``python -m benchmarks.serving.compare [--quick] [--only MODEL] [--peer NAME] [--output DIR]``.
"""

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.serving import edge, processes, sealed, servers
from benchmarks.serving.servers import S3ML, Server
from benchmarks.serving.summary import aims, summarise
from benchmarks.serving.workloads import BINARY, JSON, Workload, make
from benchmarks.summaries import RESULTS, percentile, write
from s3ml.apps.cluster.process import free_port

MODELS = ("tiny", "squeezenet", "resnet50")
CONCURRENCIES = (1, 8, 32)
DIRECT, ENVOY = "direct", "envoy"
ROUNDS = 5
QUICK_S = 0.3
# Warming up takes only the cells of this concurrency.
WARM_AT = 8
SERVER_CORE, LOAD_CORE = 0, 1
# What a pool of sealed requests may hold in memory, and how many more than the last round took it holds.
POOL_BYTES, POOL_SHARE = 600_000_000, 1.6
FIRST_RATE_PER_S = {"tiny": 4000, "squeezenet": 250, "resnet50": 60}


@dataclass(slots=True, kw_only=True)
class Stage:
    """All that runs for one model.

    Attributes:
        workload: The model.
        servers: By name.
        pids: Of each server.
        edges: Envoy's port for each server.
        load: The process that makes the load.
        rates_per_s: What each server last reached, by encoding.
    """

    workload: Workload
    servers: dict[str, Server]
    pids: dict[str, list[int]]
    edges: dict[str, int]
    load: "subprocess.Popen[str]"
    rates_per_s: dict[tuple[str, str], float] = field(default_factory=dict)


@contextmanager
def staged(workload: Workload, names: list[str], folder: Path, *, nice: int = 0) -> Iterator[Stage]:
    """Start everything for one model, and prefer it to what else the machine does as `nice` says."""
    with ExitStack() as stack:
        peers = [name for name in names if name != S3ML]
        started = stack.enter_context(servers.running(peers, workload, folder, core=SERVER_CORE))
        if S3ML in names:
            started = {S3ML: stack.enter_context(sealed.running(workload, core=SERVER_CORE))} | started
        edges = {name: free_port() for name in started}
        ports = {edges[name]: server.port for name, server in started.items()}
        envoy = stack.enter_context(edge.running(folder, ports, core=LOAD_CORE))
        load = stack.enter_context(_load(workload, started))
        pids = {name: processes.tree(server.root) for name, server in started.items()}
        if nice:
            processes.prefer([envoy, load.pid, *(pid for own in pids.values() for pid in own)], nice)
        yield Stage(workload=workload, servers=started, pids=pids, edges=edges, load=load)


@contextmanager
def _load(workload: Workload, started: dict[str, Server]) -> Iterator["subprocess.Popen[str]"]:
    told = {
        name: {
            "path": server.path,
            "key_configs": server.key_configs and base64.b64encode(server.key_configs).decode(),
        }
        for name, server in started.items()
    }
    described = asdict(workload) | {"path": str(workload.path)}
    plan = {"core": LOAD_CORE, "workload": described, "servers": told, "inner_path": sealed.inner_path()}
    command = [sys.executable, "-m", "benchmarks.serving.load"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as load:
        try:
            _say(load, plan)
            yield load
        finally:
            load.kill()


def cells(stage: Stage, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Return every cell in the order of measurement; those of round -1 warm up and are thrown away."""
    kinds = list(
        product(
            options.encoding or (BINARY, JSON),
            options.way or (DIRECT, ENVOY),
            options.concurrency or CONCURRENCIES,
        )
    )
    for number in range(-1, options.rounds):
        names = list(stage.servers)[:: -1 if number % 2 else 1]
        for (encoding, way, concurrency), name in product(kinds, names):
            is_wanted = number >= 0 or concurrency == WARM_AT
            if is_wanted and encoding in stage.servers[name].encodings:
                yield {
                    "round": number,
                    "server": name,
                    "encoding": encoding,
                    "way": way,
                    "concurrency": concurrency,
                }


def measure(stage: Stage, cell: dict[str, Any]) -> dict[str, Any]:
    """Run one cell and return its row."""
    name = cell["server"]
    seconds = stage.workload.seconds / (4 if cell["round"] < 0 else 1)
    key = (name, cell["encoding"])
    rate = stage.rates_per_s.get(key, FIRST_RATE_PER_S[stage.workload.name])
    content = len(stage.workload.encoded(cell["encoding"])[0][0]) if cell["encoding"] == JSON else 0
    size = max(content, 4 * 3 * 224 * 224 if stage.workload.name != "tiny" else 2000)
    most = max(cell["concurrency"] + 2, min(int(rate * seconds * POOL_SHARE) + 32, POOL_BYTES // size))
    port = stage.servers[name].port if cell["way"] == DIRECT else stage.edges[name]
    told = cell | {"seconds": seconds, "most": most if name == S3ML else 1_000_000, "port": port}
    pids = stage.pids[name]
    before, busy_s, began = processes.usage(pids), machine.busy_s(), time.perf_counter()
    _say(stage.load, told)
    line = stage.load.stdout.readline() if stage.load.stdout else ""
    if not line:
        raise SystemExit(f"serving: the load ended early in {cell}; what it printed is above")
    after, lasted_s = processes.usage(pids), time.perf_counter() - began
    taken = json.loads(line)
    if taken["failures"]:
        print(f"serving: {cell}: {taken['failures']} failures: {taken['failure']}", flush=True)
    if not taken["took_us"]:
        return cell | {"requests": 0, "failures": taken["failures"]}
    row = _row(cell, taken, before, after)
    others = machine.busy_s() - busy_s - row.pop("_server_s") - taken["all_cpu_s"]
    row["other_cpu_share"] = round(max(0.0, others) / lasted_s, 2)
    stage.rates_per_s[key] = max(stage.rates_per_s.get(key, 0.0), row["requests_per_s"])
    return row


def _row(
    cell: dict[str, Any], taken: dict[str, Any], before: processes.Usage, after: processes.Usage
) -> dict[str, Any]:
    took, count = taken["took_us"], len(taken["took_us"])
    user_s, system_s = after.user_s - before.user_s, after.system_s - before.system_s
    return {
        **cell,
        "requests": count,
        "failures": taken["failures"],
        "requests_per_s": round(count / taken["elapsed_s"], 2),
        "p50_ms": round(percentile(took, 0.5) / 1e3, 4),
        "p99_ms": round(percentile(took, 0.99) / 1e3, 4),
        "cpu_ms": round((user_s + system_s) / count * 1e3, 4),
        "system_cpu_ms": round(system_s / count * 1e3, 4),
        "server_cpu_share": round((user_s + system_s) / taken["elapsed_s"], 2),
        "load_cpu_share": round(taken["client_cpu_s"] / taken["elapsed_s"], 2),
        "_server_s": user_s + system_s,
    }


def _say(load: "subprocess.Popen[str]", document: dict[str, Any]) -> None:
    assert load.stdin is not None
    load.stdin.write(json.dumps(document) + "\n")
    load.stdin.flush()


def describe(stage: Stage) -> dict[str, Any]:
    """Return what each server consists of at this moment: processes, threads, memory."""
    found = {}
    for name, server in stage.servers.items():
        pids = processes.tree(server.root)
        cores = processes.cores(pids)
        assert cores == {SERVER_CORE}, (name, cores)
        found[name] = {
            "processes": len(pids),
            "threads": processes.threads(pids),
            **processes.memory(pids),
        }
    return found


def run(workload: Workload, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure one model at all servers."""
    with (
        tempfile.TemporaryDirectory(prefix="s3ml-serving-") as folder,
        staged(workload, names, Path(folder), nice=options.nice) as stage,
    ):
        idle = describe(stage)
        rows = []
        for cell in cells(stage, options):
            row = measure(stage, cell)
            if cell["round"] >= 0:
                rows.append(row)
            if options.verbose:
                print(json.dumps(row), flush=True)
        return {
            "workload": workload.described(),
            "servers": {"ready": idle, "after": describe(stage)},
            "summary": summarise(rows),
            "rounds": rows,
        }


def main() -> None:
    """Measure, and write ``serving.json`` after each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round: does it still run?")
    parser.add_argument("--only", choices=MODELS, action="append", help="leave the other models out")
    parser.add_argument("--peer", action="append", help="leave the other servers out")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--nice", type=int, default=0, help="-20 to 19, against a busy machine's other work")
    parser.add_argument("--encoding", choices=(BINARY, JSON), action="append", help="leave the other out")
    parser.add_argument("--way", choices=(DIRECT, ENVOY), action="append", help="leave the other out")
    parser.add_argument("--concurrency", type=int, action="append", help="instead of 1, 8 and 32")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual time for each cell")
    parser.add_argument("--verbose", action="store_true", help="print every cell")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    names = [S3ML, *(name for name, peer in servers.PEERS.items() if peer.is_installed)]
    names = [name for name in names if options.peer is None or name in options.peer]
    # Otherwise the servers would outlive a run that is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    described, models = machine.describe(), {}
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="s3ml-models-") as folder:
        for name in options.only or MODELS:
            workload = make(name, Path(folder))
            seconds = QUICK_S if options.quick else options.share * workload.seconds
            workload = replace(workload, seconds=seconds)
            print(f"serving: {name}: {', '.join(names)}; {options.rounds} rounds", flush=True)
            models[name] = run(workload, names, options)
            document = {
                "machine": described | {"load_average_after": _load_average()},
                "is_quick": options.quick,
                "nice": options.nice,
                "cores": {"server": SERVER_CORE, "load and Envoy": LOAD_CORE},
                "max_batch": servers.MAX_BATCH,
                "peers": servers.versions(),
                "models": models,
                "aims": aims(models),
            }
            print(f"serving: wrote {write(options.output, 'serving', document)}", flush=True)


def _load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


if __name__ == "__main__":
    main()
