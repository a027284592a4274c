"""E11: what a node agent costs: the processor time of real agents, for every kind of source.

Each agent samples a node and ten servers, and is asked for its readings as often as it samples. What stands
for the kernel of a machine that is not here is said beside each figure: nothing of it was measured on a TEE.

Usage: ``python -m benchmarks.scheduling.agent_cost [--quick] [--output DIR]``; root, for the emulated node.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.scheduling.results import Kind, Verdict, document, keep, show
from benchmarks.summaries import RESULTS
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.units import MIB
from s3ml.tee_memory.emulated import EmulatedNode

INTERVALS_S = (1.0, 0.25)
SERVERS = 10
ROUNDS = 5
ROUND_S = 20.0
AIM_SHARE = 0.01
_NS_PER_S = 1e9
_SYMBOLS = "0 t sgx_encl_ewb\n0 t __sgx_encl_eldu\n"
_STAT = "shmem 4096\npgfault 1\npgmajfault 0\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What one kind of agent reads.

    Args:
        source: For `--source`.
        options: Beside it.
        stand_in: What of it is not the kernel of such a machine.
    """

    source: str
    options: tuple[str, ...] = ()
    stand_in: str


def sgx_machine(root: Path) -> Reads:
    """Make the files of an SGX machine, whose function profile is files of this machine's disk."""
    tracing, size = root / "sys/kernel/tracing", root / "sys/devices/system/node/node0/x86"
    for folder in (tracing / "instances", tracing / "trace_stat", size, root / "proc", root / "pods"):
        folder.mkdir(parents=True)
    (size / "sgx_total_bytes").write_text(f"{93 * MIB}\n")
    (root / "proc/kallsyms").write_text(_SYMBOLS)
    for name, text in (
        ("current_tracer", "nop\n"),
        ("function_profile_enabled", "0\n"),
        ("set_ftrace_filter", ""),
    ):
        (tracing / name).write_text(text)
    for processor in range(os.cpu_count() or 1):
        (tracing / f"trace_stat/function{processor}").write_text("  sgx_encl_ewb  16\n  __sgx_encl_eldu  3\n")
    _make_groups(root / "pods")
    options = ("--root", str(root), "--servers", str(root / "pods"))
    return Reads(source="sgx", options=options, stand_in="files for the function profile and for memory.stat")


def cvm_machine(root: Path) -> Reads:
    """Make a root whose /proc is this machine's own, with the device of a confidential machine."""
    (root / "dev").mkdir(parents=True)
    (root / "dev/tdx_guest").touch()
    (root / "proc").symlink_to("/proc")
    _make_groups(root / "pods")
    options = ("--root", str(root), "--servers", str(root / "pods"))
    return Reads(source="cvm", options=options, stand_in="this machine's own /proc; files for memory.stat")


@contextmanager
def emulated_machine(name: str) -> Iterator[Reads | None]:
    """Bring an emulated node up as long as the block; None where this machine cannot."""
    node = EmulatedNode(name=name)
    try:
        node.up(size_bytes=16 * MIB)
    except S3MLError as error:
        print(f"emulated: left out: {error}", file=sys.stderr)
        yield None
        return
    try:
        for number in range(SERVERS):
            node.existing_group().server(f"server-{number}").create()
        yield Reads(source=f"emulated:{name}", stand_in="a memory cgroup and its children for an EPC")
    finally:
        node.down()


@contextmanager
def agent(reads: Reads, interval_s: float) -> Iterator[tuple[int, str]]:
    """Run an agent as long as the block; give its process and its URL."""
    command = [str(Path(sys.executable).with_name("s3ml")), "node-agent", "--source", reads.source]
    command += ["--json", "--listen", "127.0.0.1:0", "--interval", f"{interval_s}s", *reads.options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            yield process.pid, said["url"]
        finally:
            process.terminate()


def processor_s(pid: int) -> float:
    """Return the processor time of a process's threads so far."""
    return sum(
        int((task / "schedstat").read_text(encoding="ascii").split()[0]) / _NS_PER_S
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def measure(pid: int, url: str, interval_s: float, span_s: float) -> dict[str, float]:
    """Ask an agent as often as it samples, and return what it spent meanwhile."""
    began_s, spent_s, asked = time.monotonic(), processor_s(pid), 0
    while (now_s := time.monotonic()) < began_s + span_s:
        with urllib.request.urlopen(f"{url}/v1/readings", timeout=30) as answer:  # noqa: S310 - our own
            size_bytes = len(answer.read())
        asked += 1
        time.sleep(max(0.0, now_s + interval_s - time.monotonic()))
    took_s = time.monotonic() - began_s
    spent_s = processor_s(pid) - spent_s
    return {
        "share_of_a_core": spent_s / took_s,
        "ms_per_sample_and_answer": 1e3 * spent_s / asked,
        "answer_bytes": size_bytes,
        "resident_mb": _resident_mb(pid),
    }


def cost(*, is_quick: bool) -> dict[str, Any]:
    """Run the agent's part of E11."""
    rounds, span_s = (1, 1.0) if is_quick else (ROUNDS, ROUND_S)
    runs: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3ml-agent-cost-")))
        emulated = stack.enter_context(emulated_machine(f"agent-cost-{os.getpid()}"))
        chosen = [Reads(source="simulated", stand_in="a model; one server"), cvm_machine(folder / "cvm")]
        chosen += [] if emulated is None else [emulated]
        for number in range(1, rounds + 1):
            for interval_s in INTERVALS_S:
                sgx = sgx_machine(folder / f"sgx-{number}-{interval_s}")
                runs.extend(
                    {**_named(reads, number, interval_s), **_run(reads, interval_s, span_s)}
                    for reads in (*chosen, sgx)
                )
            print(f"  E11, agent: {number} of {rounds} rounds", flush=True)
    return document(
        "E11",
        Kind.EMULATION,
        title="what a node agent costs: a node and ten servers, asked as often as it samples",
        settings={"servers": SERVERS, "round_s": span_s, "intervals_s": INTERVALS_S},
        seeds=range(1, rounds + 1),
        runs=runs,
        verdicts=[] if is_quick else _verdicts(runs),
        is_quick=is_quick,
    )


def _run(reads: Reads, interval_s: float, span_s: float) -> dict[str, float]:
    with agent(reads, interval_s) as (pid, url):
        measure(pid, url, interval_s, span_s / 10)  # What is done once is not what sampling costs.
        return measure(pid, url, interval_s, span_s)


def _named(reads: Reads, number: int, interval_s: float) -> dict[str, Any]:
    source = reads.source.partition(":")[0]
    return {
        "policy": f"{source}, every {interval_s:g} s",
        "seed": number,
        "arrivals": "steady",
        "source": source,
        "interval_s": interval_s,
        "stand_in": reads.stand_in,
    }


def _verdicts(runs: Sequence[dict[str, Any]]) -> list[Verdict]:
    verdicts = []
    for name in dict.fromkeys(run["policy"] for run in runs):
        share = median(run["share_of_a_core"] for run in runs if run["policy"] == name)
        is_met = share < AIM_SHARE
        why = (
            "" if is_met else f"{share / AIM_SHARE:.1f} times the aim: each sample reads 11 sources in Python"
        )
        verdicts.append(
            Verdict(
                target=f"processor time of an agent: {name}",
                aim=f"below {AIM_SHARE:.0%} of a core",
                got=f"{share:.2%} of a core",
                is_met=is_met,
                why=why,
            )
        )
    return verdicts


def _make_groups(folder: Path) -> None:
    for number in range(SERVERS):
        (folder / f"server-{number}").mkdir(parents=True)
        (folder / f"server-{number}" / "memory.stat").write_text(_STAT)


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main() -> int:
    """Take the arguments, measure, keep, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--output", type=Path, help="folder of the results; a quick run keeps none")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the emulated node goes down
    found = cost(is_quick=options.quick)
    if options.output is not None or not options.quick:
        keep(found, (options.output or RESULTS).absolute())
    print(show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
