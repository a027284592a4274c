"""`s3ml up` with nodes and a balancer, from the first command to answers that it steered."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from s3ml.apps.balancing.control import read_status
from s3ml.apps.cli.root import run
from s3ml.primitives.errors import UnavailableError
from s3ml.scheduling.balancer.status import BalancerStatus
from tests.apps.conftest import Desk, running_cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DEADLINE_S = 120


@pytest.fixture(scope="module")
def balanced() -> Iterator[Desk]:
    words = ("--nodes", "2", "--replicas-per-node", "1", "--balancer", "s3ml", "--steering", "picker")
    with running_cluster("tumours", *words) as desk:
        for name in ("owners begin", "owners sign the policy", "model owner"):
            desk.follow_readme(name)
        yield desk


def wait_until_ready(desk: Desk) -> BalancerStatus:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):
            found = read_status(desk.state / "balancer" / "control.sock")
            replicas = [replica for service in found.services for replica in service.replicas]
            if len(replicas) == 2 and all(replica.is_ready for replica in replicas):
                return found
        time.sleep(0.05)
    pytest.fail((desk.state / "logs" / "balancer.log").read_text())


def balancer_pid(desk: Desk) -> int:
    """Return the process id of the balancer that `desk`'s cluster started."""
    children = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(desk.up.pid)], capture_output=True, text=True, check=True
    )
    (line,) = [line for line in children.stdout.splitlines() if " balancer run " in line]
    return int(line.split()[0])


class TestBalancedCluster:
    def test_it_steers_and_is_replaced_when_it_dies(self, balanced: Desk) -> None:
        found = wait_until_ready(balanced)
        assert (found.policy, found.steering) == ("s3ml", "picker")
        assert {node.kind for node in found.nodes} == {"simulated"}
        (service,) = found.services
        assert [replica.node for replica in service.replicas] == ["n1", "n2"]
        assert all(replica.name.startswith("tumours-n") for replica in service.replicas)

        (inferred,) = balanced.follow_readme("client")[-1:]
        assert inferred.status == 0
        shown = balanced.s3ml("status", "--balancer", str(balanced.state / "balancer" / "control.sock"))
        assert "s3ml by picker, 2 of 2 replicas ready" in shown.out

        before = balancer_pid(balanced)
        os.kill(before, signal.SIGKILL)
        (inferred,) = balanced.follow_readme("client")[-1:]
        assert inferred.status == 0
        wait_until_ready(balanced)
        assert balancer_pid(balanced) != before


class TestBadWishes:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--balancer", "best"), "up: --balancer: expected one of round-robin"),
            (("--steering", "picker"), "expected --balancer as well"),
            (("--replicas", "2", "--replicas-per-node", "2"), "got both"),
            (("--nodes", "16", "--replicas-per-node", "5"), "replicas: expected 1 to 64, got 80"),
        ],
    )
    def test_it_is_one_line_before_anything_starts(
        self, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
    ) -> None:
        assert run(["up", *words]) == 2
        line = capsys.readouterr().err
        assert told in line
        assert line.count("\n") == 1
