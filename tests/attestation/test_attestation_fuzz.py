"""Whatever bytes come, each parser accepts them or rejects them with an error that it documents."""

import gc
import itertools
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.primitives.units import KIB
from tests.attestation.fuzz.targets import TARGETS
from tests.fuzzing.damage import damaged
from tests.fuzzing.slice import quiet

EXAMPLES = 12  # `make fuzz` runs for long
REPEATS = 20
MORE_THAN_IS_REMEMBERED = {"read": 270, "verify": 70}  # certificates of AMD's; chains of PEM
GROWTH_LIMIT_BYTES = 64 * KIB
QUIET = quiet(EXAMPLES)
EVERY = pytest.mark.parametrize("name", TARGETS)
QUOTES_AND_READERS = [name for name in TARGETS if not name.startswith("verify-") or name.endswith("-quote")]


class TestEveryParser:
    """It ends with a result or with one of its errors."""

    @EVERY
    def test_honest_bytes_are_accepted(self, name: str) -> None:
        """Otherwise fuzzing would start from nothing."""
        target = TARGETS[name]
        assert any(target(seed) for seed in target.seeds())

    @EVERY
    @given(data=st.data())
    @QUIET
    def test_damaged_bytes(self, name: str, data: st.DataObject) -> None:
        target = TARGETS[name]
        target(data.draw(damaged(target.seeds())))

    @EVERY
    @given(data=st.binary(max_size=300))
    @settings(QUIET, max_examples=8)
    def test_any_bytes(self, name: str, data: bytes) -> None:
        TARGETS[name](data)

    @EVERY
    @pytest.mark.parametrize(
        "fill",
        [
            lambda seed: b"",
            lambda seed: seed * (256 * KIB // len(seed) + 1),
            lambda seed: b"[" * 100_000,
            lambda seed: b'{"a":' * 20_000,
            lambda seed: b"\x30\x80" * 50_000,
            lambda seed: b"\x30\x84\xff\xff\xff\xff" * 10_000,
            lambda seed: b"-----BEGIN CERTIFICATE-----\n" * 5_000,
            lambda seed: b"\xff" * 100_000,
        ],
        ids=["nothing", "repeated", "brackets", "braces", "indefinite", "endless", "begins", "ones"],
    )
    def test_large_and_nested_bytes(self, name: str, fill: Callable[[bytes], bytes]) -> None:
        target = TARGETS[name]
        target(fill(target.seeds()[0]))


class TestMemory:
    """Rejecting costs nothing that lasts."""

    @pytest.mark.parametrize("name", QUOTES_AND_READERS)
    def test_repeated_rejections_do_not_grow(self, name: str) -> None:
        """Different bytes each time: what is remembered of them is bounded, and full when counting begins."""
        target = TARGETS[name]
        seed = target.seeds()[0]
        numbers = itertools.count()

        def reject(times: int) -> None:
            for number in itertools.islice(numbers, times):
                target(seed[:-8] + number.to_bytes(8, "big"))
            gc.collect()

        tracemalloc.start()
        try:
            reject(MORE_THAN_IS_REMEMBERED["verify" if name.startswith("verify-") else "read"])
            before, _ = tracemalloc.get_traced_memory()
            reject(REPEATS)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < GROWTH_LIMIT_BYTES
