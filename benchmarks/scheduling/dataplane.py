"""What steering costs and how fast it acts: plain least-request, weights, and a pick for each request.

Three gateways before the same upstreams, which answer at once, so that what is measured is the way there.
They are loaded one after the other in an order that is drawn anew in each round; ratios are to the plain one
of the same round. Processor time is each process's own, so that what else the machine does changes it little.
The weights' balancer has a policy that says something new at each step: the dearest case.

Delay is from the moment a balancer is told another policy until a request is answered by another upstream.

Usage: ``python -m benchmarks.scheduling.dataplane [--quick] [--output DIR]``.
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.scheduling.dataplane_parts import LOOPBACK
from benchmarks.summaries import RESULTS, percentile, summary, write
from s3ml.apps.balancing.control import read_status, switch_policy
from s3ml.apps.cluster.process import free_port
from s3ml.gateway import EnvoyGateway, GatewayConfig, Picker
from s3ml.primitives.errors import UnavailableError
from s3ml.scheduling.balancer.membership import Member, Membership, write_membership

NAME = "scheduling-dataplane"
SERVICE = "bench"
MODES = ("plain", "weights", "picker")
UPSTREAMS = 3
CONCURRENCIES = (1, 16)
BODY = bytes(1024)
ROUNDS, SECONDS, FLIPS, SEED = 7, 2.0, 30, 20261128
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_DEADLINE_S = 60.0


@dataclass(kw_only=True)
class Plane:
    """One gateway, and the balancer that steers it."""

    mode: str
    port: int
    envoy_pid: int
    balancer_pid: int | None
    control: Path


@dataclass
class Taken:
    """What one load came to."""

    latencies_s: list[float] = field(default_factory=list)
    answers: dict[bytes, int] = field(default_factory=dict)


async def caller(port: int, until_s: float, taken: Taken) -> None:
    """Send one request after the other until then."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    head = (
        f"POST /services/{SERVICE}/ohttp HTTP/1.1\r\nhost: bench\r\ncontent-type: message/ohttp-req\r\n"
        f"content-length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    while (began_s := time.perf_counter()) < until_s:
        writer.write(request)
        status = await reader.readuntil(b"\r\n\r\n")
        if not status.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"expected 200, got {status[:40]!r}")
        answer = await reader.readexactly(1)
        taken.latencies_s.append(time.perf_counter() - began_s)
        taken.answers[answer] = taken.answers.get(answer, 0) + 1
    writer.close()
    await writer.wait_closed()


def processor_s(pid: int | None) -> float:
    """Return the processor time of a process so far."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


async def load(plane: Plane, concurrency: int, seconds: float) -> dict[str, float]:
    """Load one gateway; return its figures."""
    taken = Taken()
    before = processor_s(plane.envoy_pid), processor_s(plane.balancer_pid)
    began_s = time.perf_counter()
    await asyncio.gather(*(caller(plane.port, began_s + seconds, taken) for _ in range(concurrency)))
    took_s = time.perf_counter() - began_s
    after = processor_s(plane.envoy_pid), processor_s(plane.balancer_pid)
    count = len(taken.latencies_s)
    return {
        "p50_ms": 1e3 * percentile(taken.latencies_s, 0.5),
        "p99_ms": 1e3 * percentile(taken.latencies_s, 0.99),
        "requests_per_s": count / took_s,
        "envoy_us": 1e6 * (after[0] - before[0]) / count,
        "balancer_us": 1e6 * (after[1] - before[1]) / count,
        "balancer_share": (after[1] - before[1]) / took_s,
    }


class Asker:
    """Sends one request after the other, and waits for answers of one upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use one connection."""
        self._reader = reader
        self._writer = writer

    async def until(self, answer: bytes, in_a_row: int) -> float:
        """Return the seconds until `answer` comes for the first of so many times in a row."""
        request = f"POST /services/{SERVICE}/ohttp HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n".encode()
        began_s = first_s = time.perf_counter()
        run = 0
        while run < in_a_row:
            self._writer.write(request)
            await self._reader.readuntil(b"\r\n\r\n")
            got = await self._reader.readexactly(1)
            run = run + 1 if got == answer else 0
            if run == 1:
                first_s = time.perf_counter()
        return first_s - began_s


async def delays(plane: Plane, count: int, draw: random.Random) -> list[float]:
    """Change a balancer's mind that often, at instants that are drawn; return how long each was unseen."""
    reader, writer = await asyncio.open_connection(LOOPBACK, plane.port)
    asker = Asker(reader, writer)
    minds = (("first", b"0"), ("last", b"%d" % (UPSTREAMS - 1)))
    found = []
    for number in range(count):
        (before, old), (after, new) = minds if number % 2 else minds[::-1]
        await asyncio.to_thread(switch_policy, plane.control, before)
        async with asyncio.timeout(_DEADLINE_S):
            await asker.until(old, 30)  # By chance alone they would not come.
        await asyncio.sleep(0.2 * draw.random())
        await asyncio.to_thread(switch_policy, plane.control, after)
        found.append(await asker.until(new, 3))
    await asyncio.to_thread(switch_policy, plane.control, "restless")
    writer.close()
    await writer.wait_closed()
    return found


@contextlib.contextmanager
def upstreams() -> Iterator[tuple[int, ...]]:
    """Run the upstreams; yield their ports."""
    command = [sys.executable, "-m", "benchmarks.scheduling.dataplane_parts", "upstream", str(UPSTREAMS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield tuple(int(process.stdout.readline()) for _ in range(UPSTREAMS))
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@contextlib.contextmanager
def plane(mode: str, folder: Path, members: tuple[Member, ...]) -> Iterator[Plane]:
    """Run a gateway, and its balancer where it has one."""
    folder.mkdir()
    picking = free_port() if mode == "picker" else None
    asked = None if picking is None else Picker(address=f"{LOOPBACK}:{picking}", timeout_s=_DEADLINE_S)
    config = GatewayConfig(
        folder=folder / "gateway", services=(SERVICE,), picker=asked, health_timeout_s=_DEADLINE_S
    )
    control, membership = folder / "control", folder / "membership.json"
    write_membership(membership, Membership(services={SERVICE: members}))
    words = [str(config.folder), str(membership), str(control), "restless"]
    command = [sys.executable, "-m", "benchmarks.scheduling.dataplane_parts", "balancer", *words]
    with EnvoyGateway(config) as gateway, contextlib.ExitStack() as stack:
        gateway.set_replicas(SERVICE, [member.address for member in members])
        balancer = None
        if mode != "plain":
            command += [] if picking is None else [str(picking)]
            balancer = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            stack.callback(balancer.terminate)
        _wait_until_ready(gateway, control if balancer else None)
        yield Plane(
            mode=mode,
            port=int(gateway.url.rpartition(":")[2]),
            envoy_pid=gateway.pid or 0,
            balancer_pid=balancer.pid if balancer else None,
            control=control,
        )


def _wait_until_ready(gateway: EnvoyGateway, control: Path | None) -> None:
    deadline_s = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline_s:
        is_ready = sum(found.is_healthy for found in gateway.replicas(SERVICE)) == UPSTREAMS
        if is_ready and (control is None or _sees_all(control)):
            time.sleep(1.0)  # For the gateway's next question to its picker.
            return
        time.sleep(0.05)
    raise RuntimeError("the gateway was not ready in time")


def _sees_all(control: Path) -> bool:
    with contextlib.suppress(UnavailableError):
        replicas = [item for found in read_status(control).services for item in found.replicas]
        return sum(item.is_ready for item in replicas) == UPSTREAMS
    return False


def measure(*, rounds: int, seconds: float, flips: int) -> dict[str, Any]:
    """Run everything; return rounds and delays."""
    draw = random.Random(SEED)  # noqa: S311 - an order, no secret
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="s3ml-") as scratch, upstreams() as ports:
        members = tuple(
            Member(name=f"u{number}", node=f"n{number}", address=f"{LOOPBACK}:{port}")
            for number, port in enumerate(ports)
        )
        with contextlib.ExitStack() as stack:
            planes = [stack.enter_context(plane(mode, Path(scratch) / mode, members)) for mode in MODES]
            for number in range(rounds):
                for concurrency in CONCURRENCIES:
                    for one in draw.sample(planes, len(planes)):
                        figures = asyncio.run(load(one, concurrency, seconds))
                        found.append(
                            {"round": number, "mode": one.mode, "concurrency": concurrency, **figures}
                        )
            late = {one.mode: asyncio.run(delays(one, flips, draw)) for one in planes if one.mode != "plain"}
    return {"rounds": found, "delays_s": late}


def summarise(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each mode's figures at each concurrency, and as ratios to the plain one's of the same round."""
    rounds = found["rounds"]
    plain = {(one["round"], one["concurrency"]): one for one in rounds if one["mode"] == "plain"}
    entries = []
    for concurrency in CONCURRENCIES:
        for mode in MODES:
            ours = [one for one in rounds if (one["mode"], one["concurrency"]) == (mode, concurrency)]
            entry: dict[str, Any] = {"mode": mode, "concurrency": concurrency}
            names = ("p50_ms", "p99_ms", "requests_per_s", "envoy_us", "balancer_us", "balancer_share")
            entry |= {name: summary([one[name] for one in ours]) for name in names}
            for name in ("p50_ms", "p99_ms", "requests_per_s", "envoy_us"):
                ratios = [one[name] / plain[one["round"], concurrency][name] for one in ours]
                entry[f"{name}_ratio"] = summary(ratios)
            entries.append(entry)
    return entries


def document(found: Mapping[str, Any], *, is_quick: bool) -> dict[str, Any]:
    """Return the whole result."""
    late = {mode: [1e3 * value for value in values] for mode, values in found["delays_s"].items()}
    return {
        "experiment": "dataplane",
        "title": "what steering costs and how fast it acts",
        "note": "loopback, upstreams that answer at once; no TEE, emulated or other, takes part",
        "is_quick": is_quick,
        "machine": machine.describe(),
        "settings": {
            "upstreams": UPSTREAMS,
            "body_bytes": len(BODY),
            "seconds": SECONDS,
            "seed": SEED,
            "interval_s": 0.2,
        },
        "summary": summarise(found),
        "delay_ms": {
            mode: {**summary(values), "p99": round(percentile(values, 0.99), 3)}
            for mode, values in late.items()
        },
        "delays_ms": {mode: [round(value, 3) for value in values] for mode, values in late.items()},
    }


def main() -> None:
    """Take the arguments, measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rounds, seconds, flips = (1, 0.3, 2) if options.quick else (ROUNDS, SECONDS, FLIPS)
    made = document(measure(rounds=rounds, seconds=seconds, flips=flips), is_quick=options.quick)
    for entry in made["summary"]:
        print(
            f"{entry['mode']:8} at {entry['concurrency']:2}: p50 {entry['p50_ms']['median']:.2f} ms "
            f"(x {entry['p50_ms_ratio']['median']:.2f}), p99 {entry['p99_ms']['median']:.2f} ms, "
            f"{entry['requests_per_s']['median']:.0f}/s, envoy {entry['envoy_us']['median']:.0f} us, "
            f"balancer {entry['balancer_us']['median']:.0f} us a request"
        )
    for mode, values in made["delays_ms"].items():
        print(f"{mode:8} acts after {statistics.median(values):.1f} ms, at most {max(values):.1f} ms")
    if not options.quick:
        print(write(options.output, NAME, made))


if __name__ == "__main__":
    main()
