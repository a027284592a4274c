"""What the seal costs: sealed against unsealed requests through the same server.

The server runs on core 0 and the load on core 1, each in a process of its own. Unsealed, sealed with X25519
and sealed with the post-quantum hybrid take turns within every round, in an order that reverses from round
to round, so that what else the machine does falls on all three. Ratios and differences are taken within a
round; the tables show their medians.

Usage: ``python -m benchmarks.seal [--quick] [--output DIR]``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import machine, seal_steps
from benchmarks.summaries import RESULTS, percentile, summary, write

SEED = 20260
SERVER_CORE, LOAD_CORE = 0, 1
UNSEALED, MODES = "unsealed", ("unsealed", "x25519", "hybrid")
OFFERED_FIRST = "hybrid"
AIM_TINY_MS, AIM_RESNET_SHARE = 0.3, 0.03
_RESNET = "backend/test/data/light/light_resnet50.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model, its input, and how many requests each cell of a round takes, by concurrency."""

    name: str
    path: Path
    input: str
    shape: tuple[int, ...]
    rounds: int
    requests: dict[int, int]

    def cells(self) -> list[dict[str, Any]]:
        """Return every cell in the order of measurement; round -1 warms up and is thrown away."""
        cells = []
        for number in range(-1, self.rounds):
            for concurrency, requests in self.requests.items():
                order = MODES if number % 2 else MODES[::-1]
                count = requests if number >= 0 else max(1, requests // 4)
                cells += [
                    {"round": number, "mode": mode, "concurrency": concurrency, "requests": count}
                    for mode in order
                ]
        return cells


def workloads(folder: Path, *, is_quick: bool) -> list[Workload]:
    """Return the demonstration's classifier, trained now, and ResNet50 as the package `onnx` holds it."""
    from s3ml.apps.demo.tumours import train  # noqa: PLC0415 - imports scikit-learn

    onnx = find_spec("onnx")
    assert onnx is not None
    assert onnx.origin is not None
    tiny = {1: 800, 8: 1200, 32: 1200}
    resnet = {1: 30, 8: 40, 32: 64}
    return [
        Workload(
            name="tiny",
            path=train().write(folder),
            input="x",
            shape=(1, 30),
            rounds=1 if is_quick else 15,
            requests={1: 50, 8: 80} if is_quick else tiny,
        ),
        Workload(
            name="resnet50",
            path=Path(onnx.origin).parent / _RESNET,
            input="gpu_0/data_0",
            shape=(1, 3, 224, 224),
            rounds=1 if is_quick else 7,
            requests={1: 2} if is_quick else resnet,
        ),
    ]


@contextmanager
def serving(workload: Workload) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run the server with one model; give its process id and what it printed when it listened."""
    command = [sys.executable, "-m", "benchmarks.seal_server", "--core", str(SERVER_CORE)]
    command += ["--model", f"{workload.name}={workload.path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line:
                raise SystemExit("seal: the server did not start; what it printed is above")
            yield server.pid, json.loads(line)
        finally:
            server.kill()


def measure(workload: Workload) -> list[dict[str, Any]]:
    """Run all cells of a workload against one server; return one row per cell."""
    cells = workload.cells()
    with serving(workload) as (pid, told):
        plan = {
            **told,
            "model": workload.name,
            "input": workload.input,
            "shape": workload.shape,
            "seed": SEED,
            "core": LOAD_CORE,
            "cells": cells,
        }
        command = [sys.executable, "-m", "benchmarks.seal_load"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as load:
            try:
                return list(_rows(load, plan, cells, pid))
            finally:
                load.kill()


def _rows(
    load: "subprocess.Popen[str]", plan: dict[str, Any], cells: list[dict[str, Any]], pid: int
) -> Iterator[dict[str, Any]]:
    assert load.stdin is not None
    assert load.stdout is not None
    json.dump(plan, load.stdin)
    load.stdin.close()
    busy_s, server_s, began = machine.busy_s(), machine.process_s(pid), time.perf_counter()
    for cell in cells:
        line = load.stdout.readline()
        if not line:
            raise SystemExit("seal: the load ended early; what it printed is above")
        timed = json.loads(line)
        busy, server, now = machine.busy_s(), machine.process_s(pid), time.perf_counter()
        others_s = (busy - busy_s) - (server - server_s) - timed["client_cpu_s"]
        if cell["round"] >= 0:
            row = _row(cell, timed)
            row["server_cpu_share"] = round((server - server_s) / timed["elapsed_s"], 2)
            row["other_cpu_share"] = round(max(0.0, others_s) / (now - began), 2)
            yield row
        busy_s, server_s, began = busy, server, now


def _row(cell: dict[str, Any], timed: dict[str, Any]) -> dict[str, Any]:
    row = {
        **cell,
        "p50_ms": round(percentile(timed["caller"], 0.5) / 1e3, 4),
        "p99_ms": round(percentile(timed["caller"], 0.99) / 1e3, 4),
        "requests_per_s": round(len(timed["caller"]) / timed["elapsed_s"], 1),
        "wire_p50_ms": round(percentile(timed["wire"], 0.5) / 1e3, 4),
        "client_cpu_share": round(timed["client_cpu_s"] / timed["elapsed_s"], 2),
    }
    if timed["seal"]:
        row["client_seal_p50_us"] = percentile(timed["seal"], 0.5)
        row["client_open_p50_us"] = percentile(timed["open"], 0.5)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per concurrency and mode: medians, and ratios to unsealed within each round."""
    by_key = {(row["concurrency"], row["mode"], row["round"]): row for row in rows}
    rounds = sorted({row["round"] for row in rows})
    entries = []
    for concurrency in sorted({row["concurrency"] for row in rows}):
        plain = [by_key[concurrency, UNSEALED, number] for number in rounds]
        for mode in MODES:
            own = [by_key[concurrency, mode, number] for number in rounds]
            entry: dict[str, Any] = {"concurrency": concurrency, "mode": mode}
            for name in ("p50_ms", "p99_ms", "requests_per_s", "other_cpu_share"):
                entry[name] = summary([row[name] for row in own])
            if mode != UNSEALED:
                entry |= _compared(own, plain)
            entries.append(entry)
    return entries


def _compared(own: list[dict[str, Any]], plain: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = list(zip(own, plain, strict=True))
    ratios = {
        f"{name}_ratio": summary([a[name] / b[name] for a, b in pairs])
        for name in ("p50_ms", "p99_ms", "requests_per_s")
    }
    return {
        **ratios,
        "cost_p50_ms": summary([a["p50_ms"] - b["p50_ms"] for a, b in pairs], 4),
        "cost_wire_p50_ms": summary([a["wire_p50_ms"] - b["wire_p50_ms"] for a, b in pairs], 4),
        "client_seal_p50_us": summary([a["client_seal_p50_us"] for a in own], 1),
        "client_open_p50_us": summary([a["client_open_p50_us"] for a in own], 1),
    }


def aims(models: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare with the aims: one request at a time, sealed as clients prefer, their own share included."""

    def entry(model: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            one for one in models[model]["summary"] if (one["concurrency"], one["mode"]) == (1, OFFERED_FIRST)
        )
        return found

    tiny = entry("tiny")["cost_p50_ms"]["median"]
    share = round(entry("resnet50")["p50_ms_ratio"]["median"] - 1, 4)
    return [
        {
            "aim": "seal at p50, tiny model",
            "unit": "ms",
            "below": AIM_TINY_MS,
            "got": tiny,
            "is_met": tiny < AIM_TINY_MS,
        },
        {
            "aim": "seal at p50, ResNet50",
            "unit": "share of latency",
            "below": AIM_RESNET_SHARE,
            "got": share,
            "is_met": share < AIM_RESNET_SHARE,
        },
    ]


def main() -> None:
    """Measure, write ``seal.json`` and say which aims were met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a few requests only: does it still run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    described, models = machine.describe(), {}
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads(Path(folder), is_quick=options.quick):
            print(f"seal: {workload.name}: {workload.rounds} rounds of {workload.requests}", flush=True)
            rows = measure(workload)
            models[workload.name] = {
                "input": {"shape": workload.shape, "datatype": "FP32", "encoding": "binary"},
                "summary": summarise(rows),
                "rounds": rows,
            }
    print("seal: step by step, in one process", flush=True)
    document = {
        "machine": described,
        "seed": SEED,
        "is_quick": options.quick,
        "cores": {"server": SERVER_CORE, "load": LOAD_CORE},
        "models": models,
        "steps": seal_steps.measure(50 if options.quick else 4000),
        "aims": aims(models),
    }
    print(f"seal: wrote {write(options.output, 'seal', document)}", flush=True)


if __name__ == "__main__":
    main()
