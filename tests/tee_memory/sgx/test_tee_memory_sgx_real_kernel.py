"""The same on a real kernel, with a harmless function in place of the driver's: where the kernel has kprobes.

It needs root, to mount tracefs in a folder of its own.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.sgx.counting import open_counter, undo_abandoned
from s3ml.tee_memory.sgx.kprobes import Kprobes
from s3ml.tee_memory.sgx.symbols import parse_symbols
from s3ml.tee_memory.sgx.tracefs import Tracefs, setting_up

FUNCTION = "__x64_sys_getppid"
CALLS = 1000

CHILD = """
import sys, time
from pathlib import Path
from s3ml.tee_memory.sgx.kprobes import Kprobes
from s3ml.tee_memory.sgx.symbols import Symbol
from s3ml.tee_memory.sgx.tracefs import Tracefs, setting_up
tracefs = Tracefs(Path(sys.argv[1]))
with setting_up(tracefs):
    Kprobes(tracefs, sys.argv[2], (Symbol(name=sys.argv[3]),))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[Tracefs]:
    folder = tmp_path / "tracing"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tracefs", "nodev", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("tracefs cannot be mounted here")
    try:
        if not (folder / "kprobe_events").exists():
            pytest.skip("this kernel has no kprobe_events")
        yield Tracefs(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def token() -> str:
    return f"test{secrets.token_hex(4)}"


class TestKprobesForReal:
    """Calls of a function of the running kernel."""

    def test_calls_are_counted_and_nothing_is_left(self, tracefs: Tracefs) -> None:
        with Path("/proc/kallsyms").open(encoding="utf-8") as file:
            symbols = parse_symbols(file, frozenset({FUNCTION}))
        name = token()
        with setting_up(tracefs):
            calls = Kprobes(tracefs, name, symbols)
        before = calls.counts()[symbols[0]]
        for _ in range(CALLS):
            os.getppid()
        counted = calls.counts()[symbols[0]] - before
        calls.close()

        assert counted >= CALLS
        assert name not in tracefs.read("kprobe_events")
        assert not tracefs.has(f"instances/s3ml-{name}")

    def test_what_a_killed_agent_left_is_undone(self, tracefs: Tracefs) -> None:
        name = token()
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tracefs.root), name, FUNCTION],
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            with setting_up(tracefs):
                undo_abandoned(tracefs)
            assert name in tracefs.read("kprobe_events")
            child.kill()
        with setting_up(tracefs):
            undo_abandoned(tracefs)

        assert name not in tracefs.read("kprobe_events")
        assert not tracefs.has(f"instances/s3ml-{name}")

    def test_the_driver_of_this_kernel_can_be_counted_if_it_is_there(self, tracefs: Tracefs) -> None:
        with Path("/proc/kallsyms").open(encoding="utf-8") as file:
            symbols = parse_symbols(file)
        if not symbols:
            with pytest.raises(UnavailableError, match="no SGX driver"):
                open_counter(tracefs, symbols, token)
            return
        counter = open_counter(tracefs, symbols, token)
        paging = counter.read()
        counter.close()

        assert counter.name.startswith(("kprobes on ", "function profile on "))
        assert paging.page_ins >= 0
