"""`s3ml up` with nodes and a balancer, from the first command to answers that it steered."""

import contextlib
import json
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
from tests.apps.conftest import Desk, commands, running_cluster
from tests.modelserver.litert_models import linear

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

DEADLINE_S = 300
ROW = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}]}


@pytest.fixture(scope="module")
def balanced() -> Iterator[Desk]:
    words = ("--nodes", "2", "--replicas-per-node", "1", "--balancer", "s3ml", "--steering", "picker")
    with running_cluster("tumours", *words) as desk:
        for name in ("owners begin", "owners sign the policy"):
            desk.follow_readme(name)
        serve_small_model(desk)
        yield desk


def serve_small_model(desk: Desk) -> None:
    """Pack a model that needs no training, and let two owners sign a service of it."""
    _, generate, pack, *_ = commands("model owner")
    (desk.folder / "small.tflite").write_bytes(linear())
    (desk.folder / "row.json").write_text(json.dumps(ROW))
    small = [word.replace("tumours.onnx", "small.tflite") for word in pack]
    words = ("service", "sign", "tumours", "--policy", "model-server", "--model", "small-1.grant.json")
    keys = ("--model-owner", "model-owner.pub", "--key", "alice.key", "--key", "carol.key")
    for command in (generate, [*small, "--name", "small"], ["s3ml", *words, *keys]):
        done = desk.run(*command)
        assert done.status == 0, done.err


def infer(desk: Desk) -> None:
    words = ("infer", "tumours", "--model", "small", "--input", "row.json", "--timeout", "60", "--json")
    done = desk.s3ml(*words)
    assert done.status == 0, done.err
    assert json.loads(done.out)["outputs"]


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

        infer(balanced)
        shown = balanced.s3ml("status", "--balancer", str(balanced.state / "balancer" / "control.sock"))
        assert "s3ml by picker, 2 of 2 replicas ready" in shown.out

        before = balancer_pid(balanced)
        os.kill(before, signal.SIGKILL)
        infer(balanced)
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
