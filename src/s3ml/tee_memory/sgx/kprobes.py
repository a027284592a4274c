"""Calls of the kernel's functions counted by kprobe events, in a trace instance of our own.

The instance does not record: only the hits are wanted, and nobody else's trace is disturbed. A probe that was
missed because another one ran was a call all the same.

Source: Linux, Documentation/trace/kprobetrace.rst; kernel/trace/trace_kprobe.c (kprobe_profile).
"""

from collections.abc import Mapping
from contextlib import suppress

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.kernel_files import parse_figure
from s3ml.tee_memory.sgx.symbols import Symbol
from s3ml.tee_memory.sgx.tracefs import PREFIX, Claim, Tracefs

_COLUMNS = 3


class Kprobes:
    """Counts calls until it is closed; make it within `setting_up`.

    Args:
        tracefs: Where.
        token: Unique among agents: 1 to 16 of a-z and 0-9.
        symbols: What is counted.

    Raises:
        UnavailableError: the kernel refuses one of them; nothing is left set up.
    """

    name = "kprobes"

    def __init__(self, tracefs: Tracefs, token: str, symbols: tuple[Symbol, ...]) -> None:
        if not tracefs.has("kprobe_events"):
            raise UnavailableError(f"{tracefs.root}/kprobe_events: not in this kernel")
        self._tracefs = tracefs
        self._token = token
        self._events = {f"s3ml_{token}_{number}": symbol for number, symbol in enumerate(symbols)}
        self._claim = Claim(tracefs, f"{PREFIX}{token}")
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def counts(self) -> Mapping[Symbol, int]:
        """Return the calls of each symbol since the beginning.

        Raises:
            UnavailableError: they cannot be read, or the probes are gone.
        """
        hits = parse_profile(self._tracefs.read("kprobe_profile"))
        if missing := self._events.keys() - hits.keys():
            raise UnavailableError(f"kprobe_profile: {len(missing)} of {len(self._events)} probes are gone")
        return {symbol: hits[event] for event, symbol in self._events.items()}

    def close(self) -> None:
        """Undo everything; what the kernel refuses is left for a later agent to undo."""
        if self._claim.is_held:
            with suppress(UnavailableError), self._claim.ending():
                undo(self._tracefs, self._claim.name)

    def _set_up(self) -> None:
        instance = f"instances/{self._claim.name}"
        self._tracefs.write(f"{instance}/tracing_on", "0")
        group = f"s3ml_{self._token}"
        for event, symbol in self._events.items():
            where = f"{symbol.module}:{symbol.name}" if symbol.module else symbol.name
            self._tracefs.append("kprobe_events", f"p:{group}/{event} {where}")
        self._tracefs.write(f"{instance}/events/{group}/enable", "1")


def undo(tracefs: Tracefs, claimed: str) -> None:
    """Remove the probes of a claim; there may be none.

    Raises:
        UnavailableError: the kernel refuses.
    """
    if not tracefs.has("kprobe_events"):
        return
    group = f"s3ml_{claimed.removeprefix(PREFIX)}"
    switch = f"instances/{claimed}/events/{group}/enable"
    if tracefs.has(switch):
        tracefs.write(switch, "0")
    for line in tracefs.read("kprobe_events").splitlines():
        event = line.split(maxsplit=1)[0].partition(":")[2] if line.strip() else ""
        if event.startswith(f"{group}/"):
            tracefs.append("kprobe_events", f"-:{event}")


def parse_profile(text: str) -> dict[str, int]:
    """Return the calls of each event of a ``kprobe_profile``: its hits and its misses.

    Raises:
        UnavailableError: a line has another form.
    """
    calls = {}
    for line in text.splitlines():
        columns = line.split()
        if len(columns) != _COLUMNS:
            raise UnavailableError(f"kprobe_profile: expected EVENT HITS MISSES, got {line[:80]!r}")
        calls[columns[0]] = sum(parse_figure(column, what="kprobe_profile") for column in columns[1:])
    return calls
