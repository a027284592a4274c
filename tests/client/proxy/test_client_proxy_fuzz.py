"""Whatever bytes come from a local client or a service, the mapping accepts or refuses them as it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.proxy.fuzz.targets import TARGETS
from tests.fuzzing.damage import damaged
from tests.fuzzing.slice import quiet

QUIET = quiet(60)  # `make fuzz` runs for long
EVERY = pytest.mark.parametrize("name", TARGETS)


class TestEveryDirection:
    """It ends with the same tensors, or with one error that says why not."""

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
