"""What of the SGX driver a kernel lets be counted, by the names that compilers leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.tee_memory import Confidence
from s3ml.tee_memory.sgx.symbols import WAYS_IN, WAYS_OUT, Symbol, parse_symbols, ways
from tests.tee_memory.tracefs_world import KALLSYMS_DEBIAN


def names(text: str) -> list[str]:
    return [symbol.name for symbol in parse_symbols(text.splitlines())]


class TestNames:
    """A line of kallsyms is one of the functions, or nothing."""

    def test_a_real_kernel_has_these(self) -> None:
        assert names(KALLSYMS_DEBIAN) == [
            "sgx_encl_alloc_backing",
            "sgx_encl_eldu",
            "sgx_vma_fault",
            "sgx_encl_ewb",
            "sgx_reclaim_pages",
        ]

    def test_addresses_may_be_hidden(self) -> None:
        assert names("0000000000000000 t sgx_encl_ewb") == ["sgx_encl_ewb"]

    @pytest.mark.parametrize("suffix", [".isra.0", ".constprop.0", ".llvm.1234567", ".isra.0.constprop.1"])
    def test_a_clone_is_the_function(self, suffix: str) -> None:
        (symbol,) = parse_symbols([f"ffffffff81000000 t sgx_encl_ewb{suffix}"])

        assert (symbol.function, symbol.is_whole) == ("sgx_encl_ewb", True)

    def test_a_part_is_not_all_of_it(self) -> None:
        (symbol,) = parse_symbols(["ffffffff81000000 t sgx_encl_ewb.part.0"])

        assert (symbol.function, symbol.is_whole) == ("sgx_encl_ewb", False)

    @pytest.mark.parametrize(
        "line",
        [
            "ffffffff81000000 t sgx_encl_ewb.cold",
            "ffffffff81000000 t sgx_encl_ewb.isra.0.cold",
            "ffffffff81000000 t sgx_encl_ewb.cold.12",
            "ffffffff81000000 t sgx_encl_ewb_cpumask",
            "ffffffff81000000 d sgx_encl_ewb",
            "ffffffff81000000 t",
            "",
            "what is this",
        ],
    )
    def test_anything_else_is_left_out(self, line: str) -> None:
        assert names(line) == []

    def test_a_module_is_kept(self) -> None:
        (symbol,) = parse_symbols(["ffffffffc0000000 t sgx_encl_ewb\t[sgx]"])

        assert symbol == Symbol(name="sgx_encl_ewb", module="sgx")

    def test_a_repeated_name_counts_once(self) -> None:
        assert names("0 t sgx_encl_ewb\n1 t sgx_encl_ewb") == ["sgx_encl_ewb"]

    @given(st.lists(st.text()))
    def test_any_text_is_survived(self, lines: list[str]) -> None:
        assert isinstance(parse_symbols(lines), tuple)


class TestWays:
    """The exact way comes first, and says what it is."""

    def test_evictions_are_counted_one_by_one(self) -> None:
        best = next(ways(WAYS_OUT, parse_symbols(KALLSYMS_DEBIAN.splitlines())))

        assert (best.function, best.pages, best.confidence) == ("sgx_encl_ewb", 1, Confidence.COUNTED)

    def test_an_inlined_load_is_inferred_from_its_attempts(self) -> None:
        best = next(ways(WAYS_IN, parse_symbols(KALLSYMS_DEBIAN.splitlines())))

        assert (best.function, best.confidence) == ("sgx_encl_eldu", Confidence.INFERRED)

    def test_the_load_itself_comes_first(self) -> None:
        symbols = parse_symbols(["0 t sgx_encl_eldu", "0 t __sgx_encl_eldu"])

        assert [way.function for way in ways(WAYS_IN, symbols)] == ["__sgx_encl_eldu", "sgx_encl_eldu"]

    def test_a_batch_stands_for_sixteen_pages_at_most(self) -> None:
        best = next(ways(WAYS_OUT, parse_symbols(["0 t sgx_reclaim_pages"])))

        assert (best.pages, best.confidence) == (16, Confidence.INFERRED)

    def test_the_backing_comes_before_the_batch(self) -> None:
        symbols = parse_symbols(["0 t sgx_reclaim_pages", "0 T sgx_encl_alloc_backing"])

        assert next(ways(WAYS_OUT, symbols)).function == "sgx_encl_alloc_backing"

    def test_a_part_makes_it_inferred(self) -> None:
        best = next(ways(WAYS_OUT, parse_symbols(["0 t sgx_encl_ewb.part.0"])))

        assert best.confidence is Confidence.INFERRED

    def test_clones_are_counted_together(self) -> None:
        symbols = parse_symbols(["0 t sgx_encl_ewb.constprop.0", "0 t sgx_encl_ewb"])

        assert len(next(ways(WAYS_OUT, symbols)).symbols) == 2

    def test_a_kernel_without_the_driver_has_none(self) -> None:
        assert list(ways(WAYS_OUT, ())) == []
