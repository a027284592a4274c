"""A kernel's tracing files as a folder, and what the kernel does when they are written.

Forms are those of kernel/trace/trace_kprobe.c and ftrace.c; the kprobe part was compared with Linux 6.1.
"""

import errno
import os
from pathlib import Path

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.sgx.tracefs import Tracefs

UNFILTERED = "#### all functions enabled ####\n"
HEADER = "  Function                               Hit    Time            Avg             s^2\n"
RULER = "  --------                               ---    ----            ---             ---\n"

# From /proc/kallsyms of Linux 6.1.176 as Debian builds it for clouds, recorded in a virtual machine without
# SGX: __sgx_encl_eldu is inlined there.
KALLSYMS_DEBIAN = """\
ffffffff99259260 t __sgx_encl_get_backing
ffffffff99259860 T sgx_encl_alloc_backing
ffffffff99259ea0 t sgx_encl_eldu
ffffffff9925a910 t sgx_vma_fault
ffffffff9925cd90 t __sgx_encl_ewb
ffffffff9925cef0 t sgx_encl_ewb
ffffffff9925d490 t sgx_reclaim_pages
ffffffff9925da60 T sgx_reclaim_direct
ffffffff99bbfb82 t sgx_encl_eldu.cold
ffffffff9a207680 D sgx_vm_ops
"""


def make_tracefs(root: Path, *, kprobes: bool = True, profile: bool = True) -> Path:
    """Make the files of a kernel in which nothing is traced."""
    root.mkdir(parents=True)
    (root / "instances").mkdir()
    (root / "current_tracer").write_text("nop\n")
    if kprobes:
        (root / "kprobe_events").write_text("")
        (root / "kprobe_profile").write_text("")
    if profile:
        (root / "function_profile_enabled").write_text("0\n")
        (root / "set_ftrace_filter").write_text(UNFILTERED)
        (root / "trace_stat").mkdir()
        for processor in range(2):
            (root / f"trace_stat/function{processor}").write_text(HEADER + RULER)
    return root


class FakeTracefs(Tracefs):
    """Plays the kernel behind the files.

    Args:
        root: Made by `make_tracefs`.
        refused: Functions that cannot be probed or filtered.
    """

    def __init__(self, root: Path, refused: frozenset[str] = frozenset()) -> None:
        super().__init__(root)
        self.refused = refused
        self.hits: dict[str, tuple[int, int]] = {}
        self.broken: set[str] = set()
        self.intruding: str | None = None
        self.stuck: str | None = None

    def call(self, function: str, times: int, *, missed: int = 0) -> None:
        """Let a function be called, as far as it is counted."""
        for event, probed in self._events().items():
            if probed == function:
                hits, misses = self.hits.get(event, (0, 0))
                self.hits[event] = (hits + times, misses + missed)
        self._show()

    def read(self, name: str) -> str:
        if name in self.broken:
            raise UnavailableError(f"{name}: {os.strerror(errno.EIO)}")
        return super().read(name)

    def write(self, name: str, text: str) -> None:
        if name == self.stuck:
            raise UnavailableError(f"{name}: {os.strerror(errno.EBUSY)}")
        super().write(name, text)
        (self.root / name).write_text(f"{text}\n")

    def append(self, name: str, text: str) -> None:
        if name == "kprobe_events":
            self._define(text)
        elif name == "set_ftrace_filter":
            self._filter(text)
        else:
            super().append(name, text)

    def make_instance(self, name: str) -> None:
        super().make_instance(name)
        (self.root / "instances" / name / "tracing_on").write_text("1\n")
        (self.root / "instances" / name / "buffer_size_kb").write_text("1408\n")

    def remove_instance(self, name: str) -> None:
        folder = self.root / "instances" / name
        for path in sorted(folder.rglob("*"), reverse=True):  # a kernel's own files do not keep a folder
            path.rmdir() if path.is_dir() else path.unlink()
        super().remove_instance(name)

    def _define(self, text: str) -> None:
        path = self.root / "kprobe_events"
        lines = path.read_text().splitlines()
        if text.startswith("-:"):
            event = text.removeprefix("-:")
            if self._is_enabled(event.partition("/")[0]):
                raise UnavailableError(f"kprobe_events: {os.strerror(errno.EBUSY)}")
            lines = [line for line in lines if not line.startswith(f"p:{event} ")]
        else:
            event, function = text.removeprefix("p:").split()
            if function in self.refused:
                raise UnavailableError(f"kprobe_events: {os.strerror(errno.EADDRNOTAVAIL)}")
            lines.append(text)
            for instance in (self.root / "instances").iterdir():
                switch = instance / "events" / event.partition("/")[0] / "enable"
                switch.parent.mkdir(parents=True, exist_ok=True)
                switch.write_text("0\n")
        path.write_text("".join(f"{line}\n" for line in lines))
        self._show()

    def _filter(self, text: str) -> None:
        path = self.root / "set_ftrace_filter"
        held = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        if text.startswith("!"):
            held.remove(text.removeprefix("!"))
        elif text in self.refused:
            raise UnavailableError(f"set_ftrace_filter: {os.strerror(errno.EINVAL)}")
        else:
            held += [text] if self.intruding is None else [self.intruding, text]
            self.intruding = None
        path.write_text("".join(f"{line}\n" for line in held) or UNFILTERED)

    def _is_enabled(self, group: str) -> bool:
        switches = (self.root / "instances").glob(f"*/events/{group}/enable")
        return any(switch.read_text().strip() == "1" for switch in switches)

    def _events(self) -> dict[str, str]:
        lines = (self.root / "kprobe_events").read_text().splitlines()
        return {line.split()[0].partition("/")[2]: line.split()[1] for line in lines}

    def _show(self) -> None:
        lines = []
        for event in self._events():
            hits, misses = self.hits.get(event, (0, 0))
            lines.append(f"  {event:<44} {hits:15d} {misses:15d}\n")
        (self.root / "kprobe_profile").write_text("".join(lines))


def untouched(root: Path) -> bool:
    """Return whether nothing of ours is set up."""
    events, switch, held = (
        root / "kprobe_events",
        root / "function_profile_enabled",
        root / "set_ftrace_filter",
    )
    return (
        not list((root / "instances").iterdir())
        and (not events.exists() or "s3ml" not in events.read_text())
        and (not switch.exists() or switch.read_text().strip() == "0")
        and (not held.exists() or "sgx" not in held.read_text())
    )
