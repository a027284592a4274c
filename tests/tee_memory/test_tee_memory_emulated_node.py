"""An emulated EPC on this machine, as root: real groups, real swap, real paging, and nothing left behind.

All that needs the machine's settings is in this one file, and each test has the machine for itself.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.apps.cli.root import run
from s3ml.bundle.profile import read_profile
from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory.emulated import EmulatedNode, Host, Registry, find_lacks
from s3ml.tee_memory.emulated.holder import RELIEF_BYTES, holder_of
from s3ml.tee_memory.emulated.host import list_devices, write_setting
from s3ml.tee_memory.emulated.standing import Health, NodeStanding, look
from s3ml.tee_memory.emulated.swap import is_free, swap_devices
from s3ml.tee_memory.reading import Counts, Kind, compare
from tests.modelserver.conftest import build, value
from tests.tee_memory.emulated_machine import (
    DEADLINE_S,
    MIB,
    PAGE_BYTES,
    Bench,
    bench,
    settings,
    wait_until,
)

LACKS = find_lacks(Host(), is_root=os.geteuid() == 0)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(LACKS), reason=f"an emulated EPC: this machine lacks {'; '.join(LACKS)}"),
]


@pytest.fixture
def lent() -> Iterator[Bench]:
    with bench() as lent:
        yield lent


def counts(node: EmulatedNode, server: str | None = None) -> Counts:
    with contextlib.closing(node.source() if server is None else node.server_source(server)) as source:
        return source.count()


def page_ins(node: EmulatedNode, server: str | None = None) -> int:
    found = counts(node, server).page_ins
    assert found is not None
    return found


def standing_of(node: EmulatedNode) -> NodeStanding:
    return next(one for one in look(node.registry, node.host).nodes if one.name == node.name)


def kill_holder(node: EmulatedNode) -> None:
    pid = standing_of(node).holder_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until("the holder is gone", lambda: holder_of(pid) is None)


def is_waiting(node: EmulatedNode) -> bool:
    return "under_oom 1" in (node.group().path / "memory.oom_control").read_text(encoding="utf-8")


def refuse_eviction(node: EmulatedNode, server: str, swappiness: int) -> None:
    """Have the kernel keep a server's pages (0), or evict them again (100)."""
    for group in (node.group(), node.group().server(server)):
        write_setting(group.path / "memory.swappiness", swappiness)


class TestPaging:
    """A node has no more memory than its EPC; the rest is out, and comes back when it is touched."""

    def test_the_limit_holds_and_what_is_over_it_pages(self, lent: Bench) -> None:
        node = lent.node(16)
        toucher = lent.toucher(node, "server", size_mib=40)
        toucher.hear(b"filled")
        before = page_ins(node)
        toucher.touch(2)
        now = counts(node)

        # 16 of 40 MiB can be there when a round begins: the other 24 come back in each.
        assert page_ins(node) - before >= 2 * 24 * MIB // PAGE_BYTES
        assert now.resident_bytes is not None
        assert now.resident_bytes <= 16 * MIB + RELIEF_BYTES
        assert now.evicted_bytes is not None
        assert now.evicted_bytes >= (24 * MIB) - RELIEF_BYTES
        assert now.capacity_bytes == 16 * MIB
        assert node.group().limit_bytes() == 16 * MIB
        most = int((node.group().path / "memory.max_usage_in_bytes").read_text(encoding="utf-8"))
        assert most <= 16 * MIB + RELIEF_BYTES
        assert toucher.end() == 0

    def test_readings_are_emulated_and_have_rates(self, lent: Bench) -> None:
        node = lent.node(12)
        toucher = lent.toucher(node, "server", size_mib=24)
        toucher.hear(b"filled")
        with contextlib.closing(node.source()) as source:
            before = source.count()
            toucher.touch(1)
            reading = compare(source, before, source.count())

        assert reading.kind is Kind.EMULATED
        assert reading.source == f"emulated EPC {node.name}"
        assert reading.is_sane
        assert reading.page_ins_per_s is not None
        assert reading.page_outs_per_s is not None
        assert reading.page_ins_per_s > 0
        assert reading.page_outs_per_s > 0

    def test_paging_is_attributed_to_servers(self, lent: Bench) -> None:
        node = lent.node(12)
        small = lent.toucher(node, "small", size_mib=1)
        small.hear(b"filled")
        large = lent.toucher(node, "large", size_mib=32)
        large.hear(b"filled")
        large.touch(2)

        assert node.servers() == ("large", "small")
        assert page_ins(node, "large") >= 2 * 20 * MIB // PAGE_BYTES
        assert page_ins(node, "large") + page_ins(node, "small") <= page_ins(node)
        assert counts(node, "small").capacity_bytes == 12 * MIB

    def test_servers_contend(self, lent: Bench) -> None:
        """Two that fit alone and not together page each other out."""
        node = lent.node(40)
        first = lent.toucher(node, "first", size_mib=24)
        first.hear(b"filled")
        first.touch(1)
        assert counts(node).evicted_bytes == 0
        second = lent.toucher(node, "second", size_mib=24)
        second.hear(b"filled")
        before = page_ins(node)
        first.tell(1)
        second.tell(1)
        first.hear(b"touched")
        second.hear(b"touched")

        # 8 MiB at least were out when they began, and all of it was touched.
        assert page_ins(node) - before >= 8 * MIB // PAGE_BYTES
        assert (first.end(), second.end()) == (0, 0)

    def test_another_size_holds_at_once(self, lent: Bench) -> None:
        node = lent.node(40)
        toucher = lent.toucher(node, None, size_mib=24)
        toucher.hear(b"filled")
        node.resize(12 * MIB)
        shrunk = counts(node)
        assert shrunk.capacity_bytes == node.group().limit_bytes() == node.size_bytes() == 12 * MIB
        assert shrunk.resident_bytes is not None
        assert shrunk.resident_bytes <= 12 * MIB
        node.resize(40 * MIB)
        toucher.touch(1)
        before = page_ins(node)
        toucher.touch(1)

        assert page_ins(node) - before < MIB // PAGE_BYTES
        assert toucher.end() == 0

    def test_what_is_evicted_comes_back_when_it_is_touched(self, lent: Bench) -> None:
        node = lent.node(40)
        toucher = lent.toucher(node, None, size_mib=16)
        toucher.hear(b"filled")
        before = page_ins(node)
        node.evict()
        assert node.group().limit_bytes() == 40 * MIB
        toucher.touch(1)
        assert page_ins(node) - before >= 12 * MIB // PAGE_BYTES

    def test_programs_inside_use_small_pages_alone(self, lent: Bench) -> None:
        node = lent.node(16)
        toucher = lent.toucher(node, "server", size_mib=1)
        toucher.hear(b"filled")
        status = Path(f"/proc/{toucher.process.pid}/status").read_text(encoding="utf-8")
        group = Path(f"/proc/{toucher.process.pid}/cgroup").read_text(encoding="utf-8")

        assert "THP_enabled:\t0" in status
        assert f"/{node.name}/server\n" in group
        assert standing_of(node).processes == (toucher.process.pid,)


class TestRelief:
    """Who finds no room waits, and is relieved; nobody is killed for it."""

    def test_many_runs_survive_a_small_node(self, lent: Bench) -> None:
        node = lent.node(12)
        touchers = [lent.toucher(node, f"server-{number}", size_mib=12) for number in range(4)]
        for toucher in touchers:
            toucher.hear(b"filled")
        for toucher in touchers:
            toucher.tell(2)
        for toucher in touchers:
            toucher.hear(b"touched")

        assert [toucher.end() for toucher in touchers] == [0, 0, 0, 0]
        wait_until("the limit is set back", lambda: node.group().limit_bytes() == 12 * MIB)

    def test_who_waits_is_relieved_once_something_can_be_evicted(self, lent: Bench) -> None:
        """The kernel is told to evict nothing: the program waits, and lives."""
        node = lent.node(12)
        toucher = lent.toucher(node, "server", size_mib=1)
        toucher.hear(b"filled")
        refuse_eviction(node, "server", 0)
        large = lent.toucher(node, "server", size_mib=24)
        wait_until("it waits for memory", lambda: is_waiting(node))
        refuse_eviction(node, "server", 100)
        large.hear(b"filled")

        assert (large.end(), toucher.end()) == (0, 0)
        wait_until("the limit is set back", lambda: node.group().limit_bytes() == 12 * MIB)

    def test_a_killed_holder_is_seen_and_healed(self, lent: Bench) -> None:
        node = lent.node(12)
        toucher = lent.toucher(node, "server", size_mib=1)
        toucher.hear(b"filled")
        kill_holder(node)
        refuse_eviction(node, "server", 0)
        large = lent.toucher(node, "server", size_mib=24)
        wait_until("it waits for memory", lambda: is_waiting(node))
        refuse_eviction(node, "server", 100)
        assert standing_of(node).health is Health.UNRELIEVED

        node.up(size_bytes=12 * MIB)
        large.hear(b"filled")
        assert standing_of(node).health is Health.UP
        assert (large.end(), toucher.end()) == (0, 0)

    def test_a_node_whose_holder_was_killed_goes_down_with_who_waits(self, lent: Bench) -> None:
        node = lent.node(12)
        kill_holder(node)
        small = lent.toucher(node, "server", size_mib=1)
        small.hear(b"filled")
        refuse_eviction(node, "server", 0)
        large = lent.toucher(node, "server", size_mib=24)
        wait_until("it waits for memory", lambda: is_waiting(node))

        assert node.down()
        assert large.end() == -signal.SIGTERM
        lent.check_restored()


class TestUpAndDown:
    """Settings change with the first node, and are restored with the last."""

    def test_a_node_that_is_up_is_not_brought_up_again(self, lent: Bench) -> None:
        node = lent.node(16)
        with pytest.raises(ConfigurationError, match=f"{node.name} is up: resize it, or bring it down first"):
            node.up(size_bytes=16 * MIB)
        assert standing_of(node).health is Health.UP

    def test_down_restores_everything_and_twice_is_harmless(self, lent: Bench) -> None:
        node = lent.node(16)
        assert settings() != lent.before
        assert node.down()
        lent.check_restored()
        assert not node.down()
        lent.check_restored()

    def test_nodes_are_apart(self, lent: Bench) -> None:
        paging, idle = lent.node(12), lent.node(16)
        toucher = lent.toucher(paging, "server", size_mib=24)
        toucher.hear(b"filled")
        toucher.touch(1)
        assert page_ins(idle) == 0
        idle.down()
        before = page_ins(paging)
        toucher.touch(1)

        assert page_ins(paging) - before >= 12 * MIB // PAGE_BYTES
        assert toucher.end() == 0
        paging.down()
        lent.check_restored()

    def test_a_device_that_is_in_use_is_left_alone(self, lent: Bench) -> None:
        """Another one is added for as long as it is needed."""
        registry, host = Registry(), Host()
        with registry.locked():
            devices = list_devices(host)
            if registry.read() is not None or not all(is_free(host, device) for device in devices):
                pytest.skip("a device in use: somebody's node is up, or every device has a user already")
            for device in devices:
                host.write(f"sys/block/zram{device}/disksize", MIB)
        try:
            node = lent.node(12)
            added = look(registry, host).swap_device
            assert added not in {f"/dev/zram{device}" for device in devices}
            assert swap_devices(host)[0] == added
            toucher = lent.toucher(node, None, size_mib=24)
            toucher.hear(b"filled")
            toucher.touch(1)
            assert page_ins(node) >= 12 * MIB // PAGE_BYTES
            assert toucher.end() == 0
            node.down()
            with registry.locked():
                if registry.read() is None:
                    assert list_devices(host) == devices
        finally:
            for device in devices:
                host.write(f"sys/block/zram{device}/reset", 1)
                if lent.before is not None:
                    word = str(lent.before[f"zram{device} comp_algorithm"])
                    chosen = next(one for one in word.split() if one.startswith("["))
                    host.write(f"sys/block/zram{device}/comp_algorithm", chosen.strip("[]"))
        lent.check_restored()

    def test_another_state_folder_is_refused_while_nodes_are_up(self, lent: Bench, tmp_path: Path) -> None:
        lent.node(16)
        during = settings()
        other = EmulatedNode(name="other", registry=Registry(folder=tmp_path / "state"))
        with pytest.raises(ConfigurationError, match="knows nothing of it: use the --state"):
            other.up(size_bytes=16 * MIB)
        assert not other.down()
        assert settings() == during

    def test_a_state_of_an_earlier_boot_restores_nothing(self, lent: Bench, tmp_path: Path) -> None:
        _ = lent
        registry = Registry(folder=tmp_path / "state")
        registry.folder.mkdir()
        document = {
            "version": 1,
            "boot_id": "an earlier one",
            "page_cluster_before": 7,
            "swap": {"device": 0, "is_added": False, "algorithm_before": "lzo", "devices_before": [0]},
            "nodes": {"other": {"size_bytes": MIB, "holder": {"pid": 1, "started_ticks": 1}}},
        }
        (registry.folder / "state.json").write_text(json.dumps(document), encoding="utf-8")
        assert look(registry, Host()).nodes == ()
        assert not EmulatedNode(name="other", registry=registry).down()
        assert not registry.folder.exists()


KILLED_AT_EACH_STEP = """
import os, signal, sys
from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory.emulated import EmulatedNode
from s3ml.tee_memory.emulated.standing import look
from tests.tee_memory.emulated_machine import original_settings

name, way, stride = sys.argv[1], sys.argv[2], int(sys.argv[3])
node = EmulatedNode(name=name)
changes = ("os.mkdir", "os.rmdir", "os.rename", "os.remove", "os.kill", "subprocess.Popen")
before = original_settings()

def step(number, act):
    # Kill the process that acts when it is about to change something for the number-th time.
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = [number]
    def watch(event, arguments):
        if event in changes or (event == "open" and arguments[2] & 3):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    act()
    os._exit(0)

killed = 0
number = 1
while True:
    if way == "down":
        node.up(size_bytes=16 << 20)
    status = step(number, (lambda: node.up(size_bytes=16 << 20)) if way != "down" else node.down)
    if way == "up-again":
        try:
            node.up(size_bytes=16 << 20)
        except ConfigurationError as error:
            assert "is up" in str(error), error
        health = [one.health for one in look(node.registry, node.host).nodes if one.name == name]
        assert health == ["up"], health
        assert node.group().limit_bytes() == 16 << 20
    node.down()
    assert not node.group().is_there
    now = original_settings()
    assert None in (before, now) or now == before, (killed, now, before)
    if status == 0:
        break
    assert status == -signal.SIGKILL, status
    killed += 1
    number += stride
print(killed)
"""


class TestKilled:
    """Whatever a killed command left half done, the next one completes or restores."""

    @pytest.mark.parametrize(("way", "stride"), [("up", 1), ("up-again", 4), ("down", 1)])
    def test_it_is_healed_wherever_it_was_killed(self, lent: Bench, way: str, stride: int) -> None:
        node = lent.node()
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AT_EACH_STEP, node.name, way, str(stride)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # The first node of a machine has some fifteen things to change, a further one five.
        assert int(done.stdout) >= 5 // stride
        lent.check_restored()
        wait_until("holders that no state names end", lambda: not holders_of(node.name))


def holders_of(name: str) -> list[str]:
    """Return the processes whose command line names a node, this one's children apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"s3ml.tee_memory.emulated.holder" in words and name.encode() in words:
                found.append(path.parent.name)
    return found


class TestCommand:
    """`s3ml epc-emulate` as somebody types it."""

    def test_up_run_resize_status_down(self, lent: Bench, capfd: pytest.CaptureFixture[str]) -> None:
        name = lent.node().name
        assert run(["epc-emulate", "up", name, "--size", "16"]) == 0
        said = capfd.readouterr()
        assert f"{name}: up, 16 MiB" in said.out
        assert "EMULATED" in said.err
        assert run(["epc-emulate", "resize", name, "--size", "12"]) == 0
        assert run(["epc-emulate", "status", "--json"]) == 0
        document = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert document["is_emulated"] is True
        (node,) = [one for one in document["nodes"] if one["name"] == name]
        assert (node["health"], node["size_bytes"], node["processes"]) == ("up", 12 * MIB, [])
        assert run(["epc-emulate", "status"]) == 0
        said = capfd.readouterr()
        assert name in said.out
        assert "EMULATED" in said.err
        assert run(["epc-emulate", "up", name, "--size", "12"]) == 2
        assert f"s3ml: emulated EPC: {name} is up" in capfd.readouterr().err
        assert run(["epc-emulate", "down", name]) == 0
        assert f"{name}: down; " in capfd.readouterr().out
        assert run(["epc-emulate", "down", name]) == 0
        assert f"{name}: was not up" in capfd.readouterr().out

    def test_a_killed_holder_is_told(self, lent: Bench, capfd: pytest.CaptureFixture[str]) -> None:
        node = lent.node(16)
        kill_holder(node)
        assert run(["epc-emulate", "status"]) == 0
        said = capfd.readouterr().out
        assert "unrelieved" in said
        assert f"its holder is gone: s3ml epc-emulate up {node.name} --size 16, or" in said

    def test_status_and_signals_of_what_runs_are_the_command_s(self, lent: Bench) -> None:
        node = lent.node(16)
        script = f"cat /proc/self/cgroup; test $(ulimit -c) != x; exit {7}"
        done = inside(node, "sh", "-c", script)
        assert done.returncode == 7
        assert f"/{node.name}/server\n" in done.stdout
        assert "EMULATED" in done.stderr
        assert inside(node, "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
        assert inside(node, "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE
        missing = inside(node, "no-such-program")
        assert (missing.returncode, missing.stderr.splitlines()[-1]) == (
            2,
            "s3ml: no-such-program: cannot be run: No such file or directory",
        )

    def test_what_is_not_up_is_said(self, lent: Bench, capfd: pytest.CaptureFixture[str]) -> None:
        name = lent.node().name
        for words in (["run", name, "--", "true"], ["resize", name, "--size", "16"]):
            assert run(["epc-emulate", *words]) == 2
            assert capfd.readouterr().err.splitlines()[-1] == (
                f"s3ml: emulated EPC: {name} is not up: s3ml epc-emulate up {name} --size MIB"
            )


def inside(node: EmulatedNode, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command by the command line."""
    start = "import sys; from s3ml.apps.cli import main; sys.argv[0] = 's3ml'; main()"
    words = ["epc-emulate", "run", node.name, "--server", "server", "--", *command]
    return subprocess.run(
        [sys.executable, "-c", start, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def wide() -> bytes:
    """``y = x @ w``, whose weights of 12 MiB are all touched by each run."""
    weights = np.arange(3 * MIB, dtype=np.float32).reshape(3, MIB)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs, outputs = [value("x", TensorProto.FLOAT, 1, 3)], [value("y", TensorProto.FLOAT, 1, MIB)]
    constants = [numpy_helper.from_array(weights, "w")]
    data: bytes = build(nodes, inputs, outputs, constants).SerializeToString()
    return data


class TestProfile:
    """`s3ml profile --paging` measures a real model on a node of its own."""

    def test_pages_rise_as_the_epc_shrinks(
        self, lent: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        lent.nodes.append(EmulatedNode(name=f"profile-{os.getpid()}"))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "wide.onnx").write_bytes(wide())
        words = ["--max-batch", "1", "--threads", "1", "--duration", "20ms", "--paging"]
        assert run(["profile", "wide.onnx", *words]) == 0
        said = capfd.readouterr()
        assert "EMULATED" in said.err
        assert "EMULATED" in said.out
        section = read_profile(tmp_path / "wide.profile.json").paging
        assert section is not None
        assert section.copies == 2
        assert len(section.points) >= 6
        assert section.points[0].headroom == pytest.approx(1.3, abs=0.01)
        assert section.points[-1].headroom == pytest.approx(0.5, abs=0.01)
        assert section.hot_set_bytes >= 2 * 12 * MIB
        # How much pages where is the machine's. But half of that does not hold what both touch in each run.
        assert section.points[-1].pages_per_request > 0
        lent.check_restored()
