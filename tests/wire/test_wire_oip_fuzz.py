"""Whatever bytes come, the codecs of the protocol accept them or reject them with their one error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing.damage import damaged
from tests.fuzzing.slice import quiet
from tests.wire.fuzz.targets import TARGETS

QUIET = quiet(60)  # `make fuzz` runs for long
EVERY = pytest.mark.parametrize("name", TARGETS)


class TestEveryCodec:
    """It ends with what Python's own JSON reads, or with one error that says why not."""

    @EVERY
    def test_honest_bytes_are_accepted(self, name: str) -> None:
        target = TARGETS[name]
        assert all(target(seed) for seed in target.seeds())

    @EVERY
    @given(data=st.data())
    @QUIET
    def test_damaged_bytes(self, name: str, data: st.DataObject) -> None:
        target = TARGETS[name]
        target(data.draw(damaged(target.seeds())))

    @EVERY
    @given(data=st.binary(max_size=300))
    @settings(QUIET, max_examples=30)
    def test_any_bytes(self, name: str, data: bytes) -> None:
        TARGETS[name](data)
