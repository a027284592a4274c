"""The comparison with other model servers: what it computes from rows, what it shows, and that it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import processes, tables
from benchmarks.serving.servers import PEERS, S3ML
from benchmarks.serving.summary import aims, summarise
from benchmarks.serving.workloads import BINARY, JSON, make

REPOSITORY = Path(__file__).parents[2]


def row(server: str, number: int, *, rate: float, p99_ms: float = 10.0) -> dict[str, Any]:
    return {
        "server": server,
        "round": number,
        "encoding": "binary",
        "way": "direct",
        "concurrency": 8,
        "requests": 100,
        "failures": 0,
        "requests_per_s": rate,
        "p50_ms": 5.0,
        "p99_ms": p99_ms,
        "cpu_ms": 1000 / rate,
        "other_cpu_share": 0.0,
    }


def measured(rows: list[dict[str, Any]], memory_mb: dict[str, float]) -> dict[str, Any]:
    kinds = ("rss_mb", "pss_mb", "anonymous_mb")
    after = {
        name: {"processes": 1, "threads": 2, **dict.fromkeys(kinds, size)} for name, size in memory_mb.items()
    }
    return {"summary": summarise(rows), "servers": {"after": after}}


class TestRatios:
    """A ratio is taken within a round, where the same neighbours disturbed both."""

    def test_a_slow_round_does_not_move_the_ratio(self) -> None:
        rows = [
            row(S3ML, 0, rate=200),
            row("kserve", 0, rate=100),
            row(S3ML, 1, rate=20),
            row("kserve", 1, rate=10),
        ]

        entry = next(one for one in summarise(rows) if one["server"] == "kserve")

        assert entry["s3ml_ratios"]["requests_per_s"]["range"] == [2.0, 2.0]

    def test_a_peer_alone_is_compared_with_nothing(self) -> None:
        assert "s3ml_ratios" not in summarise([row("kserve", 0, rate=100)])[0]


class TestAims:
    """Every aim is held at the point that is worst for S3ML."""

    def test_a_peer_that_is_faster_anywhere_misses_the_aim(self) -> None:
        rows = [row(S3ML, 0, rate=200), row("mlserver", 0, rate=100)]
        rows += [one | {"concurrency": 1} for one in (row(S3ML, 0, rate=90), row("mlserver", 0, rate=100))]

        found = {aim["aim"]: aim for aim in aims({"tiny": measured(rows, {S3ML: 1.0, "mlserver": 2.0})})}

        rate = found["requests/s: tiny, worst of 2 points, to mlserver"]
        assert (rate["got"], rate["at_least"], rate["is_met"]) == (0.9, 1.0, False)
        assert found["memory: tiny, worst of 3 kinds, to mlserver"]["is_met"]

    def test_triton_may_be_a_tenth_faster_and_has_no_aim_for_p99(self) -> None:
        rows = [row(S3ML, 0, rate=91), row("triton-python", 0, rate=100)]

        found = aims({"tiny": measured(rows, {S3ML: 3.0, "triton-python": 2.0})})

        assert [(aim["aim"].split(":")[0], aim["is_met"]) for aim in found] == [
            ("requests/s", True),
            ("memory", False),
        ]


class TestTables:
    """A point that a server was not asked at stays empty."""

    def test_a_line_for_each_point_and_a_column_for_each_server(self) -> None:
        rows = [row(S3ML, 0, rate=200), row("kserve", 0, rate=100)]
        rows.append(row(S3ML, 0, rate=50) | {"encoding": "json"})
        document = {"models": {"tiny": measured(rows, {S3ML: 1.0, "kserve": 2.0})}}

        lines = tables.rates(document, "tiny").splitlines()

        assert lines[0] == "| requests | S3ML, sealed | KServe |"
        assert lines[2] == "| binary, direct, 8 | 200 (200 to 200) | 100 (100 to 100) |"
        assert lines[3] == "| json, direct, 8 | 50 (50 to 50) |  |"


class TestProcesses:
    """A server is all that descends from its first process."""

    def test_a_child_belongs_to_its_parent(self) -> None:
        command = [sys.executable, "-c", "input()"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            try:
                assert child.pid in processes.tree(os.getpid())
            finally:
                child.kill()

    def test_memory_is_of_all_of_them(self) -> None:
        once, twice = processes.memory([os.getpid()]), processes.memory([os.getpid()] * 2)

        assert once["rss_mb"] >= once["anonymous_mb"] > 1
        assert twice["anonymous_mb"] == pytest.approx(2 * once["anonymous_mb"], rel=0.05)

    def test_one_that_ended_counts_nothing(self) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()

        assert processes.memory([ended.pid])["rss_mb"] == 0
        assert processes.usage([ended.pid]).user_s == 0


class TestWorkloads:
    """Every server gets the same requests, and may batch them."""

    @pytest.mark.parametrize("encoding", [BINARY, JSON])
    def test_requests_are_the_same_each_time(self, tmp_path: Path, encoding: str) -> None:
        workload = make("squeezenet", tmp_path)

        assert workload.encoded(encoding)[:1] == workload.encoded(encoding)[:1]

    @pytest.mark.parametrize("name", ["squeezenet", "resnet50"])
    def test_a_topology_of_the_package_takes_a_batch(self, tmp_path: Path, name: str) -> None:
        import onnx

        workload = make(name, tmp_path)
        graph = onnx.load(str(workload.path)).graph

        first = {
            value.name: value.type.tensor_type.shape.dim[0].dim_param
            for value in (*graph.input, *graph.output)
        }
        assert (first[workload.input], first[workload.output]) == ("N", "N")


class TestRun:
    """The comparison runs from end to end, also where no peer is installed."""

    @pytest.mark.integration
    def test_s3ml_alone(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.serving.compare", "--quick", "--only", "tiny"]
        command += ["--peer", S3ML, "--concurrency", "2", "--output", str(tmp_path)]

        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        document = json.loads((tmp_path / "serving.json").read_text(encoding="utf-8"))
        found = document["models"]["tiny"]["summary"]
        assert {(one["encoding"], one["way"]) for one in found} == {
            (BINARY, "direct"),
            (BINARY, "envoy"),
            (JSON, "direct"),
            (JSON, "envoy"),
        }
        assert set(PEERS).isdisjoint(one["server"] for one in found)
