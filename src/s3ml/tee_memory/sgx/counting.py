"""Calls of kernel functions become pages out and in, by the best ways that a kernel lets be counted.

Kprobes come before the function profile: they are in an instance of our own, and many distributions leave the
profile out.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import MIB
from s3ml.tee_memory.reading import Confidence
from s3ml.tee_memory.sgx import function_profile, kprobes
from s3ml.tee_memory.sgx.function_profile import FunctionProfile
from s3ml.tee_memory.sgx.kprobes import Kprobes
from s3ml.tee_memory.sgx.symbols import WAYS_IN, WAYS_OUT, Symbol, Way, parse_symbols, ways
from s3ml.tee_memory.sgx.tracefs import Tracefs, abandoned, setting_up

# Of a kernel with many modules: 300,000 lines.
_SYMBOLS_LIMIT_BYTES = 64 * MIB
_TOOLS = (Kprobes, FunctionProfile)


class Calls(Protocol):
    """Counts calls of kernel functions."""

    @property
    def name(self) -> str:
        """By what, for people."""
        ...

    def counts(self) -> Mapping[Symbol, int]:
        """Return the calls since the beginning."""
        ...

    def close(self) -> None:
        """Undo what was set up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Pages that were counted since the beginning.

    Args:
        page_ins: Brought back.
        page_outs: Evicted.
    """

    page_ins: int
    page_outs: int


class PagingCounter:
    """Counts the pages of a machine's EPC that go out and come in.

    Args:
        calls: Counts the symbols of both ways; closed with this.
        out: How pages out are counted.
        into: How pages in are counted.
    """

    def __init__(self, calls: Calls, *, out: Way, into: Way) -> None:
        self._calls = calls
        self._out = out
        self._into = into
        exact = {out.confidence, into.confidence} == {Confidence.COUNTED}
        self.confidence = Confidence.COUNTED if exact else Confidence.INFERRED
        self.name = f"{calls.name} on {out.function}, {into.function}"

    def read(self) -> Paging:
        """Return what was counted.

        Raises:
            UnavailableError: it cannot be read now.
        """
        calls = self._calls.counts()
        return Paging(page_ins=_pages(self._into, calls), page_outs=_pages(self._out, calls))

    def close(self) -> None:
        """Undo what was set up."""
        self._calls.close()


def read_symbols(path: Path) -> tuple[Symbol, ...]:
    """Return the symbols that tell of EPC paging.

    Args:
        path: The machine's ``/proc/kallsyms``.

    Raises:
        UnavailableError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return parse_symbols(_lines(file))
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}") from error


def open_counter(tracefs: Tracefs, symbols: tuple[Symbol, ...], token: Callable[[], str]) -> PagingCounter:
    """Set up the best way of counting that the kernel accepts, after undoing what killed agents left.

    Args:
        tracefs: Where.
        symbols: What the kernel has.
        token: Gives names, new ones each time: 1 to 16 of a-z and 0-9.

    Raises:
        UnavailableError: the kernel has none of the functions, or accepts no way; the message has the reason
            of the last one.
    """
    out, into = tuple(ways(WAYS_OUT, symbols)), tuple(ways(WAYS_IN, symbols))
    if not out or not into:
        raise UnavailableError("/proc/kallsyms: none of the functions that page an EPC: no SGX driver")
    refusal = UnavailableError("nothing was tried")
    with setting_up(tracefs):
        undo_abandoned(tracefs)
        for tool in _TOOLS:
            for one, other in _pairs(out, into):
                try:
                    calls = tool(tracefs, token(), (*one.symbols, *other.symbols))
                except UnavailableError as error:
                    refusal = error
                else:
                    return PagingCounter(calls, out=one, into=other)
    raise UnavailableError(f"paging cannot be counted: {refusal}") from refusal


def undo_abandoned(tracefs: Tracefs) -> int:
    """Undo what agents left that were killed, as far as the kernel lets it; call within `setting_up`.

    Returns:
        Of how many agents.

    Raises:
        UnavailableError: what was left cannot be listed.
    """
    undone = 0
    for name in abandoned(tracefs):
        with suppress(UnavailableError):  # What is in use stays, for the next agent.
            kprobes.undo(tracefs, name)
            function_profile.undo(tracefs, name)
            tracefs.remove_instance(name)
            undone += 1
    return undone


def _pairs(out: tuple[Way, ...], into: tuple[Way, ...]) -> Iterator[tuple[Way, Way]]:
    """Yield every pair of ways, those with the exact ones first."""
    ranked = sorted(
        (rank_out + rank_in, rank_out, rank_in)
        for rank_out in range(len(out))
        for rank_in in range(len(into))
    )
    for _, rank_out, rank_in in ranked:
        yield out[rank_out], into[rank_in]


def _pages(way: Way, calls: Mapping[Symbol, int]) -> int:
    return way.pages * sum(calls[symbol] for symbol in way.symbols)


def _lines(file: Iterator[str]) -> Iterator[str]:
    """Yield lines until the limit of what is looked at."""
    size = 0
    for line in file:
        size += len(line)
        if size > _SYMBOLS_LIMIT_BYTES:
            return
        yield line
