"""Which of the kernel's functions tell of EPC paging, and which of them this kernel has; pure.

Compilers inline static functions and rename clones, so what can be counted differs from kernel to kernel.
Each direction has several ways, the exact ones first:

* Out: `sgx_encl_ewb` runs once for each page written out, whatever EWB takes; `sgx_encl_alloc_backing` once
  for each page about to be, also where it then fails (Linux 5.19 and later); `sgx_reclaim_pages` once for a
  batch of at most 16.
* In: `__sgx_encl_eldu` runs once for each page loaded back; `sgx_encl_eldu` also where no EPC page was free
  and the access is tried again; `sgx_vma_fault` at every fault in an enclave, also the first touch of a page.

Source: Linux, arch/x86/kernel/cpu/sgx/main.c and encl.c, 5.11 to 6.8; ADR 23.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from s3ml.tee_memory.reading import Confidence

BATCH_PAGES = 16
# A part of a function that was moved out of line: no call of the function.
_NOT_CALLS = (".cold",)
_WHOLE = ("isra", "constprop", "llvm", "lto_priv")
_FIELDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A function as the kernel names it.

    Args:
        name: With the compiler's suffix, if there is one.
        module: Of which module; empty for the kernel itself.
        is_whole: Whether every call of the function runs it: a part that was split off is not.
    """

    name: str
    module: str = ""
    is_whole: bool = True

    @property
    def function(self) -> str:
        """The function's name in the source."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of counting pages in one direction.

    Args:
        function: Whose calls are counted.
        pages: How many pages a call stands for, at most.
        confidence: Whether calls are pages.
        symbols: The function and its clones, as this kernel has them.
    """

    function: str
    pages: int = 1
    confidence: Confidence = Confidence.COUNTED
    symbols: tuple[Symbol, ...] = ()


WAYS_OUT = (
    Way(function="sgx_encl_ewb"),
    Way(function="sgx_encl_alloc_backing", confidence=Confidence.INFERRED),
    Way(function="sgx_reclaim_pages", pages=BATCH_PAGES, confidence=Confidence.INFERRED),
)
WAYS_IN = (
    Way(function="__sgx_encl_eldu"),
    Way(function="sgx_encl_eldu", confidence=Confidence.INFERRED),
    Way(function="sgx_vma_fault", confidence=Confidence.INFERRED),
)
FUNCTIONS = frozenset(way.function for way in (*WAYS_OUT, *WAYS_IN))


def parse_symbols(lines: Iterable[str], functions: frozenset[str] = FUNCTIONS) -> tuple[Symbol, ...]:
    """Return those symbols of ``/proc/kallsyms`` that are one of `functions`, without repetition.

    Addresses are not looked at: they are zeros for whoever may not see them. Lines of another form are left
    out.

    Args:
        lines: ``ADDRESS TYPE NAME``, and ``[MODULE]`` after a tab.
        functions: Names in the source.
    """
    found = dict.fromkeys(symbol for line in lines if (symbol := _parse(line, functions)) is not None)
    return tuple(found)


def ways(known: tuple[Way, ...], symbols: tuple[Symbol, ...]) -> Iterator[Way]:
    """Yield the ways that a kernel has, the best first.

    Args:
        known: The ways of one direction, the exact ones first.
        symbols: What the kernel has.
    """
    for way in known:
        own = tuple(symbol for symbol in symbols if symbol.function == way.function)
        if own:
            is_whole = all(symbol.is_whole for symbol in own)
            confidence = way.confidence if is_whole else Confidence.INFERRED
            yield Way(function=way.function, pages=way.pages, confidence=confidence, symbols=own)


def _parse(line: str, functions: frozenset[str]) -> Symbol | None:
    fields = line.split()
    if len(fields) < _FIELDS or fields[1] not in {"t", "T"}:
        return None
    name = fields[2]
    function, _, suffix = name.partition(".")
    if function not in functions or name.endswith(_NOT_CALLS) or ".cold." in name:
        return None
    module = fields[3].strip("[]") if len(fields) > _FIELDS else ""
    kinds = [piece for piece in suffix.split(".") if piece and not piece.isdecimal()]
    return Symbol(name=name, module=module, is_whole=all(kind in _WHOLE for kind in kinds))
