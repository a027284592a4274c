"""Calls of the kernel's functions counted by ftrace's function profile.

The profile and its filter are one for the whole machine: it is used only where nobody else uses them, and
switched on only once the filter was read back and holds our functions alone; otherwise every function of the
kernel would be profiled. Names are cut to 30 characters in it.

Source: Linux, Documentation/trace/ftrace.rst; kernel/trace/ftrace.c (function_stat_show).
"""

from collections.abc import Mapping
from contextlib import suppress

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.kernel_files import parse_figure
from s3ml.tee_memory.sgx.symbols import FUNCTIONS, Symbol
from s3ml.tee_memory.sgx.tracefs import PREFIX, Claim, Tracefs

SUFFIX = "-profile"
_SWITCH = "function_profile_enabled"
_FILTER = "set_ftrace_filter"
_NAME_CHARACTERS = 30
_HEADERS = ("Function", "--------")


class FunctionProfile:
    """Counts calls until it is closed; make it within `setting_up`.

    Args:
        tracefs: Where.
        token: Unique among agents: 1 to 16 of a-z and 0-9.
        symbols: What is counted.

    Raises:
        UnavailableError: the kernel has no profile, refuses, or somebody else uses it; nothing is left.
    """

    name = "function profile"

    def __init__(self, tracefs: Tracefs, token: str, symbols: tuple[Symbol, ...]) -> None:
        if not tracefs.has(_SWITCH):
            raise UnavailableError(f"{tracefs.root}/{_SWITCH}: not in this kernel")
        _check_unused(tracefs)
        self._tracefs = tracefs
        self._symbols = symbols
        self._claim = Claim(tracefs, f"{PREFIX}{token}{SUFFIX}")
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def counts(self) -> Mapping[Symbol, int]:
        """Return the calls of each symbol since the beginning, over all processors.

        Raises:
            UnavailableError: they cannot be read.
        """
        calls = dict.fromkeys((symbol.name[:_NAME_CHARACTERS] for symbol in self._symbols), 0)
        files = [name for name in self._tracefs.list("trace_stat") if name.startswith("function")]
        if not files:
            raise UnavailableError(f"{self._tracefs.root}/trace_stat: expected function0 and others")
        for name in files:
            for function, hits in parse_stat(self._tracefs.read(f"trace_stat/{name}")).items():
                if function in calls:
                    calls[function] += hits
        return {symbol: calls[symbol.name[:_NAME_CHARACTERS]] for symbol in self._symbols}

    def close(self) -> None:
        """Undo everything; what the kernel refuses is left for a later agent to undo."""
        if self._claim.is_held:
            with suppress(UnavailableError), self._claim.ending():
                undo(self._tracefs, self._claim.name)

    def _set_up(self) -> None:
        for symbol in self._symbols:
            self._tracefs.append(_FILTER, symbol.name)
        held, wanted = set(_filtered(self._tracefs)), {symbol.name for symbol in self._symbols}
        if held != wanted:
            raise UnavailableError(f"{_FILTER}: expected {len(wanted)} functions, got {len(held)}")
        self._tracefs.write(_SWITCH, "1")


def undo(tracefs: Tracefs, claimed: str) -> None:
    """Switch off the profile of a claim, then take our functions out of the filter.

    Raises:
        UnavailableError: the kernel refuses.
    """
    if not claimed.endswith(SUFFIX) or not tracefs.has(_SWITCH):
        return
    tracefs.write(_SWITCH, "0")
    for name in _filtered(tracefs):
        if name.partition(".")[0] in FUNCTIONS:
            tracefs.append(_FILTER, f"!{name}")


def parse_stat(text: str) -> dict[str, int]:
    """Return the hits of each function of one processor's ``trace_stat`` file.

    Raises:
        UnavailableError: a line has another form.
    """
    hits: dict[str, int] = {}
    for line in text.splitlines():
        columns = line.split()
        if not columns or columns[0] in _HEADERS:
            continue
        if len(columns) == 1:
            raise UnavailableError(f"trace_stat: expected FUNCTION HIT, got {line[:80]!r}")
        hits[columns[0]] = hits.get(columns[0], 0) + parse_figure(columns[1], what="trace_stat")
    return hits


def _check_unused(tracefs: Tracefs) -> None:
    if tracefs.read(_SWITCH).strip() != "0":
        raise UnavailableError(f"{_SWITCH}: somebody else profiles functions")
    if _filtered(tracefs):
        raise UnavailableError(f"{_FILTER}: somebody else filters functions")
    if (tracer := tracefs.read("current_tracer").strip()) != "nop":
        raise UnavailableError(f"current_tracer: somebody else traces: expected nop, got {tracer[:40]!r}")


def _filtered(tracefs: Tracefs) -> list[str]:
    """Return the functions of the filter."""
    lines = [line.strip() for line in tracefs.read(_FILTER).splitlines()]
    return [line.split()[0] for line in lines if line and not line.startswith("#")]
