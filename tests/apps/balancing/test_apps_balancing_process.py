"""`s3ml balancer` as operators run it: a process that is asked, switched, killed and started anew."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from s3ml.apps.balancing.control import read_status
from s3ml.apps.cli.root import run
from s3ml.gateway import EnvoyGateway
from s3ml.primitives.errors import UnavailableError
from s3ml.scheduling.balancer.membership import Membership, write_membership
from s3ml.scheduling.balancer.settings import Steering
from s3ml.scheduling.balancer.view import Reason
from tests.apps.balancing.conftest import SERVICE, Site, eventually, make_balancer, make_config, members_of
from tests.gateway.conftest import Upstream

pytestmark = pytest.mark.integration

S3ML = (sys.executable, "-m", "s3ml.apps.cli")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


async def s3ml(*words: str) -> Done:
    """Run a command beside the upstreams of this event loop."""
    process = await asyncio.create_subprocess_exec(
        *S3ML,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200"},
    )
    out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


class Operator:
    """Runs one balancer, which may die, and asks it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.control = folder / "control.sock"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, policy: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *S3ML,
                *("balancer", "run", "--policy", policy, "--control", str(self.control)),
                *("--gateway-folder", str(self.site.config.folder)),
                *("--membership", str(self.folder / "membership.json")),
                stdout=log,
                stderr=log,
            )
        await eventually(self.sees_both)

    async def sees_both(self) -> bool:
        """Whether it answers, and sees both replicas ready."""
        assert self._process is not None
        assert self._process.returncode is None, (self.folder / "log").read_text()
        try:
            status = await asyncio.to_thread(read_status, self.control)
        except UnavailableError:
            return False
        return sum(item.is_ready for found in status.services for item in found.replicas) == 2

    async def fell_back(self) -> bool:
        """Whether it does without readings."""
        (service,) = (await asyncio.to_thread(read_status, self.control)).services
        return {item.reason for item in service.replicas} == {Reason.FELL_BACK}

    async def end(self, number: signal.Signals) -> int:
        if self._process is None or self._process.returncode is not None:
            return 0
        self._process.send_signal(number)
        return await self._process.wait()


@pytest.fixture
async def operator(
    tmp_path: Path, upstreams: tuple[Upstream, Upstream], caller: aiohttp.ClientSession
) -> AsyncIterator[Operator]:
    config = make_config(tmp_path)
    balancer = make_balancer(config.folder, upstreams, [], steering=Steering.WEIGHTS)
    members = members_of(upstreams)
    # Nobody listens for n0's agent; n1 has none.
    there = Membership(services={SERVICE: members}, agents={"n0": "http://127.0.0.1:1"})
    write_membership(tmp_path / "membership.json", there)
    with EnvoyGateway(config) as gateway:
        site = Site(gateway=gateway, config=config, upstreams=upstreams, caller=caller, balancer=balancer)
        made = Operator(site, tmp_path)
        yield made
        await made.end(signal.SIGKILL)


class TestLife:
    async def test_it_is_asked_switched_killed_and_started_anew(self, operator: Operator) -> None:
        """All the while requests are answered."""
        await operator.start("round-robin")
        control = ("--control", str(operator.control))
        switched = await s3ml("balancer", "policy", "s3ml", *control)
        assert (switched.status, "* s3ml" in switched.out) == (0, True), switched.err

        # Without any reading there is nothing to predict by.
        await eventually(operator.fell_back)
        shown = await s3ml("balancer", "status", *control)
        assert "falls back: its readings cannot be relied on" in shown.out
        assert "nothing: no agent answers" in shown.out

        refused = await s3ml("balancer", "policy", "best", *control)
        assert refused.status == 2
        assert "expected one of round-robin" in refused.err

        await operator.end(signal.SIGKILL)
        assert sum((await operator.site.calls(20)).values()) == 20
        gone = await s3ml("balancer", "status", *control)
        assert (gone.status, gone.err.count("\n")) == (4, 1)
        assert "none answers at" in gone.err

        await operator.start("power-of-two")
        assert sum((await operator.site.calls(20)).values()) == 20
        assert await operator.end(signal.SIGTERM) == 0
        assert not operator.control.exists()
        events = [json.loads(line)["event"] for line in (operator.folder / "log").read_text().splitlines()]
        assert events.count("started") == 2
        assert {"agent-lost", "policy-switched", "falling-back", "stopping"} <= set(events)


class TestAddressInUse:
    async def test_a_second_balancer_does_not_take_over(self, operator: Operator) -> None:
        await operator.start("round-robin")
        done = await s3ml(
            *("balancer", "run", "--policy", "s3ml", "--control", str(operator.control)),
            *("--gateway-folder", str(operator.site.config.folder)),
            *("--membership", str(operator.folder / "membership.json")),
        )
        assert done.status == 2
        assert done.err == f"s3ml: --control: another balancer listens on {operator.control}: end it first\n"
        asked = await s3ml("balancer", "policy", "--control", str(operator.control))
        assert (asked.status, "* round-robin" in asked.out) == (0, True), asked.err

    async def test_a_picker_that_cannot_listen_is_one_line(self, operator: Operator) -> None:
        """Found out once the gateway was seen; before that nothing is picked."""
        address = operator.site.upstreams[0].address
        done = await s3ml(
            *("balancer", "run", "--policy", "s3ml", "--control", str(operator.control)),
            *("--gateway-folder", str(operator.site.config.folder)),
            *("--membership", str(operator.folder / "membership.json"), "--picker", address),
        )
        lines = [line for line in done.err.splitlines() if not line.startswith("{")]
        assert done.status == 2
        assert lines == [f"s3ml: --picker: cannot listen on {address}: Address already in use"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--policy", "best"), "is not one of 'round-robin'"),
            (("--picker", "nowhere"), "--picker: expected HOST:PORT, got 'nowhere'"),
            (("--listen", "127.0.0.1:99999"), "--listen: expected HOST:PORT"),
            (("--interval", "5"), "5.0 is not in the range"),
            ((), "membership"),
        ],
    )
    def test_it_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
    ) -> None:
        needed = ("--policy", "s3ml", "--gateway-folder", str(tmp_path), "--control", str(tmp_path / "c"))
        assert run(["balancer", "run", *needed, "--membership", str(tmp_path / "none"), *words]) == 2
        line = capsys.readouterr().err
        assert line.startswith("s3ml: ")
        assert told in line
        assert line.count("\n") == 1
