"""Pages are counted by the best way that the kernel accepts; all that was set up is undone."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory import Confidence
from s3ml.tee_memory.sgx.counting import PagingCounter, open_counter, read_symbols
from s3ml.tee_memory.sgx.function_profile import FunctionProfile
from s3ml.tee_memory.sgx.function_profile import parse_stat as parse_function_stat
from s3ml.tee_memory.sgx.kprobes import Kprobes, parse_profile
from s3ml.tee_memory.sgx.symbols import Symbol, parse_symbols
from s3ml.tee_memory.sgx.tracefs import Tracefs, setting_up
from tests.tee_memory.tracefs_world import (
    HEADER,
    KALLSYMS_DEBIAN,
    RULER,
    FakeTracefs,
    make_tracefs,
    untouched,
)

SYMBOLS = parse_symbols(KALLSYMS_DEBIAN.splitlines())
EXACT = parse_symbols([*KALLSYMS_DEBIAN.splitlines(), "0 t __sgx_encl_eldu"])


def tokens() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"t{next(numbers)}"


@pytest.fixture
def tracefs(tmp_path: Path) -> FakeTracefs:
    return FakeTracefs(make_tracefs(tmp_path / "tracing"))


def open_it(tracefs: Tracefs, symbols: tuple[Symbol, ...] = SYMBOLS) -> PagingCounter:
    return open_counter(tracefs, symbols, tokens())


class TestKprobes:
    """Probes in an instance of our own."""

    def test_calls_are_pages(self, tracefs: FakeTracefs) -> None:
        counter = open_it(tracefs)
        tracefs.call("sgx_encl_ewb", 32)
        tracefs.call("sgx_encl_eldu", 5, missed=2)

        paging = counter.read()

        assert (paging.page_outs, paging.page_ins) == (32, 7)
        assert counter.name == "kprobes on sgx_encl_ewb, sgx_encl_eldu"

    def test_both_exact_ways_are_counted(self, tracefs: FakeTracefs) -> None:
        assert open_it(tracefs, EXACT).confidence is Confidence.COUNTED

    def test_an_inexact_way_is_inferred(self, tracefs: FakeTracefs) -> None:
        assert open_it(tracefs).confidence is Confidence.INFERRED

    def test_a_batch_counts_sixteenfold(self, tracefs: FakeTracefs) -> None:
        counter = open_it(tracefs, parse_symbols(["0 t sgx_reclaim_pages", "0 t sgx_vma_fault"]))
        tracefs.call("sgx_reclaim_pages", 3)

        assert counter.read().page_outs == 48

    def test_nothing_is_recorded(self, tracefs: FakeTracefs) -> None:
        open_it(tracefs)

        instance = tracefs.root / "instances/s3ml-t0"
        assert (instance / "tracing_on").read_text().strip() == "0"
        assert (instance / "buffer_size_kb").read_text().strip() == "4"

    def test_others_events_stay(self, tracefs: FakeTracefs) -> None:
        tracefs.append("kprobe_events", "p:theirs/event do_exit")
        open_it(tracefs).close()

        assert tracefs.read("kprobe_events") == "p:theirs/event do_exit\n"

    def test_the_end_leaves_nothing(self, tracefs: FakeTracefs) -> None:
        counter = open_it(tracefs)
        counter.close()
        counter.close()

        assert untouched(tracefs.root)

    def test_a_function_that_is_refused_gives_way_to_the_next(self, tmp_path: Path) -> None:
        tracefs = FakeTracefs(make_tracefs(tmp_path / "tracing"), frozenset({"sgx_encl_ewb"}))

        assert open_it(tracefs).name == "kprobes on sgx_encl_alloc_backing, sgx_encl_eldu"

    def test_probes_that_are_gone_are_an_error(self, tracefs: FakeTracefs) -> None:
        counter = open_it(tracefs)
        (tracefs.root / "kprobe_profile").write_text("")

        with pytest.raises(UnavailableError, match="2 of 2 probes are gone"):
            counter.read()

    def test_a_module_is_named(self, tracefs: FakeTracefs) -> None:
        open_it(tracefs, parse_symbols(["0 t sgx_encl_ewb\t[sgx]", "0 t sgx_encl_eldu\t[sgx]"]))

        assert "sgx:sgx_encl_ewb\n" in tracefs.read("kprobe_events")

    @pytest.mark.parametrize(
        "text", ["one two\n", "event 1 -2\n", "event x 0\n", "a 1 2 3\n", "a 1 " + "9" * 30]
    )
    def test_a_malformed_profile_is_an_error(self, text: str) -> None:
        with pytest.raises(UnavailableError):
            parse_profile(text)


class TestFunctionProfile:
    """The machine's only profile, where nobody else uses it."""

    @pytest.fixture
    def plain(self, tmp_path: Path) -> FakeTracefs:
        return FakeTracefs(make_tracefs(tmp_path / "tracing", kprobes=False))

    def test_hits_are_added_over_processors(self, plain: FakeTracefs) -> None:
        counter = open_it(plain)
        line = "  sgx_encl_ewb                           {:<6} 12.500 us       0.781 us        0.002 us\n"
        for processor, hits in enumerate((16, 4)):
            (plain.root / f"trace_stat/function{processor}").write_text(HEADER + RULER + line.format(hits))

        assert (counter.read().page_outs, counter.read().page_ins) == (20, 0)
        assert counter.name == "function profile on sgx_encl_ewb, sgx_encl_eldu"

    def test_it_is_on_for_our_functions_alone(self, plain: FakeTracefs) -> None:
        open_it(plain)

        assert plain.read("set_ftrace_filter") == "sgx_encl_ewb\nsgx_encl_eldu\n"
        assert plain.read("function_profile_enabled") == "1\n"

    def test_the_end_leaves_nothing(self, plain: FakeTracefs) -> None:
        open_it(plain).close()

        assert untouched(plain.root)

    @pytest.mark.parametrize(
        ("file", "text", "reason"),
        [
            ("function_profile_enabled", "1\n", "somebody else profiles"),
            ("set_ftrace_filter", "do_exit\n", "somebody else filters"),
            ("current_tracer", "function\n", "somebody else traces"),
        ],
    )
    def test_it_is_not_taken_from_others(self, plain: FakeTracefs, file: str, text: str, reason: str) -> None:
        (plain.root / file).write_text(text)

        with pytest.raises(UnavailableError, match=reason):
            open_it(plain)

        assert (plain.root / file).read_text() == text

    def test_a_filter_that_holds_more_switches_nothing_on(self, plain: FakeTracefs) -> None:
        """Somebody else began to filter between our look and our change."""
        plain.intruding = "do_exit"

        with pytest.raises(UnavailableError, match="paging cannot be counted"):
            open_it(plain)

        assert plain.read("function_profile_enabled") == "0\n"
        assert plain.read("set_ftrace_filter") == "do_exit\n"

    def test_a_long_name_is_found_by_its_beginning(self, plain: FakeTracefs) -> None:
        symbols = parse_symbols(["0 t sgx_encl_alloc_backing.constprop.0", "0 t sgx_encl_eldu"])
        counter = open_it(plain, symbols)
        shown = f"  {symbols[0].name[:30]:<30}  {9:10d}\n"
        (plain.root / "trace_stat/function0").write_text(HEADER + RULER + shown)

        assert counter.read().page_outs == 9

    @pytest.mark.parametrize("text", ["sgx_encl_ewb\n", "sgx_encl_ewb many\n", "sgx_encl_ewb -1\n"])
    def test_a_malformed_stat_is_an_error(self, text: str) -> None:
        with pytest.raises(UnavailableError):
            parse_function_stat(text)

    def test_no_stat_is_an_error(self, plain: FakeTracefs) -> None:
        counter = open_it(plain)
        for path in (plain.root / "trace_stat").iterdir():
            path.unlink()

        with pytest.raises(UnavailableError, match="trace_stat"):
            counter.read()


class TestRefusals:
    """What cannot be counted is said, and nothing is left."""

    def test_without_the_driver(self, tracefs: FakeTracefs) -> None:
        with pytest.raises(UnavailableError, match="no SGX driver"):
            open_it(tracefs, ())

        assert untouched(tracefs.root)

    def test_when_the_kernel_refuses_everything(self, tmp_path: Path) -> None:
        refused = frozenset(symbol.name for symbol in SYMBOLS)
        tracefs = FakeTracefs(make_tracefs(tmp_path / "tracing"), refused)

        with pytest.raises(UnavailableError, match="paging cannot be counted"):
            open_it(tracefs)

        assert untouched(tracefs.root)

    def test_without_either_tool(self, tmp_path: Path) -> None:
        tracefs = FakeTracefs(make_tracefs(tmp_path / "tracing", kprobes=False, profile=False))

        with pytest.raises(UnavailableError, match="not in this kernel"):
            open_it(tracefs)

    def test_while_another_agent_sets_up(self, tracefs: FakeTracefs) -> None:
        with setting_up(tracefs), pytest.raises(UnavailableError, match="another agent"):
            open_it(tracefs)

    def test_no_tracefs(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="mount -t tracefs"):
            Tracefs.locate(tmp_path)

    @pytest.mark.parametrize("place", ["sys/kernel/tracing", "sys/kernel/debug/tracing"])
    def test_either_mount_is_found(self, tmp_path: Path, place: str) -> None:
        make_tracefs(tmp_path / place)

        assert Tracefs.locate(tmp_path).root == tmp_path / place

    def test_symbols_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="kallsyms"):
            read_symbols(tmp_path / "kallsyms")

    def test_symbols_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "kallsyms").write_bytes(bytes(range(256)) * 64)

        assert read_symbols(tmp_path / "kallsyms") == ()


CHILD = """
import sys, time
from pathlib import Path
from s3ml.tee_memory.sgx.counting import open_counter, parse_symbols
from tests.tee_memory.tracefs_world import KALLSYMS_DEBIAN, FakeTracefs
open_counter(FakeTracefs(Path(sys.argv[1])), parse_symbols(KALLSYMS_DEBIAN.splitlines()), lambda: "dead")
print("up", flush=True)
time.sleep(600)
"""


class TestLeftovers:
    """A later start undoes what a killed agent left, and leaves a living one alone."""

    @pytest.fixture(params=[True, False], ids=["kprobes", "profile"])
    def left(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeTracefs]:
        root = make_tracefs(tmp_path / "tracing", kprobes=request.param)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True, env=environment
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            self.child = child
            yield FakeTracefs(root)
            child.kill()

    def test_a_killed_agents_are_undone(self, left: FakeTracefs) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(timeout=60)

        counter = open_it(left)

        assert not [entry for entry in left.list("instances") if "dead" in entry]
        counter.close()
        assert untouched(left.root)

    @pytest.mark.parametrize("left", [True], indirect=True, ids=["kprobes"])
    def test_one_that_cannot_be_undone_hinders_nobody(self, left: FakeTracefs) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(timeout=60)
        switch = left.root / "instances/s3ml-dead/events/s3ml_dead/enable"
        left.stuck = str(switch.relative_to(left.root))

        assert open_it(left).read().page_outs == 0
        assert "s3ml-dead" in left.list("instances")

    def test_a_living_agents_are_left(self, left: FakeTracefs) -> None:
        if left.has("kprobe_events"):
            open_it(left).close()
        else:
            with pytest.raises(UnavailableError, match="somebody else profiles"):
                open_it(left)

        assert [entry for entry in left.list("instances") if "dead" in entry]


class TestEveryFile:
    """Whatever file is missing or broken: a documented error."""

    def test_counts_that_cannot_be_read(self, tracefs: FakeTracefs) -> None:
        counter = open_it(tracefs)
        tracefs.broken.add("kprobe_profile")

        with pytest.raises(UnavailableError, match="kprobe_profile"):
            counter.read()

    def test_an_end_that_the_kernel_refuses_is_left_to_the_next_agent(self, tracefs: FakeTracefs) -> None:
        counter = open_it(tracefs)
        tracefs.broken.add("kprobe_events")
        counter.close()
        tracefs.broken.clear()

        open_counter(tracefs, SYMBOLS, lambda: "later").close()

        assert untouched(tracefs.root)

    @pytest.mark.parametrize("tool", [Kprobes, FunctionProfile])
    def test_an_instance_that_cannot_be_made(
        self, tracefs: FakeTracefs, tool: type[Kprobes] | type[FunctionProfile]
    ) -> None:
        (tracefs.root / "instances").rmdir()

        with pytest.raises(UnavailableError):
            tool(tracefs, "t", SYMBOLS)
