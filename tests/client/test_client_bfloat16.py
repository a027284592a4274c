"""BF16: the upper half of a 32-bit float."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.client import BFloat16
from s3ml.client.core import Core
from s3ml.client.errors import InvalidInputError
from s3ml.client.inputs import to_tensors
from tests.client.world import SERVICE, Driver


class TestRounding:
    """Numbers go to the nearest BF16, ties to even; what a BF16 can hold comes back."""

    @pytest.mark.parametrize(
        ("value", "bits"),
        [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3F80),
            (-2.5, 0xC020),
            (np.inf, 0x7F80),
            (-np.inf, 0xFF80),
            (1.00390625, 0x3F80),  # A tie, and even lies below.
            (1.01171875, 0x3F82),  # A tie, and even lies above.
            (3.4028234e38, 0x7F80),
        ],
    )
    def test_known_values(self, value: float, bits: int) -> None:
        assert BFloat16.from_floats(value).bits == bits

    def test_nan_stays_nan(self) -> None:
        weird = np.array([0x7F800001, 0xFFFFFFFF], dtype=np.uint32).view(np.float32)
        assert np.isnan(BFloat16.from_floats(weird).to_float32()).all()

    @given(st.integers(0, 0xFFFF))
    def test_every_bf16_survives(self, bits: int) -> None:
        number = BFloat16(np.array([bits], dtype=np.uint16))
        again = BFloat16.from_floats(number.to_float32())
        assert again.bits == number.bits or np.isnan(number.to_float32()).all()

    @given(
        st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126)
    )
    def test_it_is_near(self, value: float) -> None:
        near = BFloat16.from_floats(value).to_float32()
        assert abs(float(near) - value) <= max(abs(value) / 256, 1e-40)

    def test_shapes_stay(self) -> None:
        number = BFloat16.from_floats([[1.0, 2.0], [3.0, 4.0]])
        assert number.bits.shape == (2, 2)
        assert number.to_float32().T.tolist() == [[1.0, 3.0], [2.0, 4.0]]

    def test_bits_are_uint16(self) -> None:
        with pytest.raises(InvalidInputError, match="BF16: expected raw bits as uint16, got float32"):
            BFloat16(np.zeros(1, np.float32))


class TestInputs:
    """BF16 goes in as itself, without asking the model, and comes back as raw bits."""

    def test_it_travels(self, core: Core, driver: Driver) -> None:
        (tensor,) = to_tensors({"x": BFloat16.from_floats([1.0])}, {})
        assert (tensor.datatype, tensor.array.tolist()) == ("BF16", [0x3F80])
        got = driver.run(core.infer(SERVICE, {"z": BFloat16.from_floats([1.0])}))
        assert got.datatypes == {"z": "BF16"}

    def test_what_ml_dtypes_calls_bfloat16(self) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        (tensor,) = to_tensors({"x": np.array([1.0, -2.5], dtype=ml_dtypes.bfloat16)}, {})
        assert (tensor.datatype, tensor.array.tolist()) == ("BF16", [0x3F80, 0xC020])
