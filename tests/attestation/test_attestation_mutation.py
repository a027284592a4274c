"""Every bit of what is signed counts: a flip of it is rejected."""

import itertools

import pytest

from tests.attestation.corpus.lie import ACCEPTED, MALFORMED, case_of, judge
from tests.attestation.fuzz.flips import DOCUMENTS, collateral_part, judge_flip, one_bit_each, quote_parts
from tests.attestation.fuzz.formats import FORMATS, formats

SIZES = {"SGX": 48 + 384, "TDX 1.0": 48 + 584, "TDX 1.5": 48 + 6 + 648, "SEV-SNP": 0x2A0}
# The formats of TDX have all but the report in common, and what follows the quoting enclave's with SGX.
QUOTE_PARTS = [
    (name, number) for name in FORMATS for number in range({"TDX 1.0": 1, "SEV-SNP": 2}.get(name, 5))
]


class TestQuotes:
    """One bit of every byte that is signed, or signs; `make fuzz` flips all of them."""

    @pytest.mark.parametrize("name", FORMATS)
    def test_the_honest_quote_is_accepted(self, name: str) -> None:
        world = formats()[name]
        assert judge(case_of(world)).result == ACCEPTED
        assert quote_parts(world)[0].stop == SIZES[name]

    @pytest.mark.parametrize(("name", "number"), QUOTE_PARTS)
    def test_a_flip_breaks_the_signature(self, name: str, number: int) -> None:
        """Or it cannot be read: some bits are fixed by the format."""
        world = formats()[name]
        for offset, bit in one_bit_each(quote_parts(world)[number]):
            outcome = judge_flip(world, offset, bit)
            assert outcome.result == MALFORMED or "quote_signature" in outcome.claims, (offset, bit)


class TestCollateral:
    """So does what the vendor signed: here every seventh byte of it."""

    @pytest.mark.parametrize("document", DOCUMENTS)
    def test_a_flip_is_rejected(self, document: str) -> None:
        world = formats()["SGX"]
        for offset, bit in itertools.islice(one_bit_each(collateral_part(world, document)), 0, None, 7):
            assert judge_flip(world, offset, bit, document).result != ACCEPTED, (offset, bit)
