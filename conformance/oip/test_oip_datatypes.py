"""Every datatype, to the bit, in JSON and in binary."""

from collections.abc import Callable

import numpy as np
import pytest

from conformance.oip.endpoint import Endpoint
from conformance.oip.names import DATATYPES, EVERY_DATATYPE, HALF_PRECISION
from conformance.oip.requests import every_datatype, sample
from conformance.oip.tensors import DTYPES, Tensor, binary_names, outputs, same, tensor

Need = Callable[[str], str]


def echo(
    endpoint: Endpoint, inputs: list[Tensor], *, binary: bool, output: bool, model: str = EVERY_DATATYPE
) -> dict[str, Tensor]:
    """Send all inputs in JSON or in binary, and ask for the outputs so."""
    document = {
        "id": "an id",
        "inputs": [tensor.in_binary() if binary else tensor.in_json() for tensor in inputs],
        "parameters": {"binary_data_output": output},
    }
    blobs = b"".join(tensor.raw for tensor in inputs) if binary else b""
    reply = endpoint.infer(model, document, blobs)
    got = outputs(reply)
    assert binary_names(reply) == (set(got) if output else set())
    return got


WAYS = pytest.mark.parametrize(
    ("binary", "output"), [(False, False), (False, True), (True, False), (True, True)]
)


class TestEcho:
    """What goes in comes out."""

    @WAYS
    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_extremes(
        self, endpoint: Endpoint, need: Need, datatype: str, *, binary: bool, output: bool
    ) -> None:
        need(EVERY_DATATYPE)
        given = sample(datatype)
        got = echo(endpoint, every_datatype(**{datatype: given}), binary=binary, output=output)
        echoed = got[f"{given.name}-out"]
        assert echoed.datatype == datatype
        assert same(echoed.array, given.array)

    @WAYS
    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_no_elements(
        self, endpoint: Endpoint, need: Need, datatype: str, *, binary: bool, output: bool
    ) -> None:
        need(EVERY_DATATYPE)
        given = tensor(datatype.lower(), datatype, [])
        got = echo(endpoint, every_datatype(**{datatype: given}), binary=binary, output=output)
        assert got[f"{given.name}-out"].array.shape == (0,)

    @pytest.mark.parametrize("datatype", ["FP32", "FP64"])
    def test_not_a_number_and_infinity_travel_in_binary(
        self, endpoint: Endpoint, need: Need, datatype: str
    ) -> None:
        need(EVERY_DATATYPE)
        given = tensor(datatype.lower(), datatype, [np.nan, np.inf, -np.inf, -0.0])
        got = echo(endpoint, every_datatype(**{datatype: given}), binary=True, output=True)
        assert same(got[f"{given.name}-out"].array, given.array)


class TestHalfPrecision:
    """FP16 travels in binary; in JSON too, where a server likes."""

    VALUES = (0.5, -2.25, 65504.0, 6e-8)

    @pytest.mark.parametrize("values", [VALUES, (), (np.nan, np.inf, -np.inf, -0.0)])
    def test_in_binary(self, endpoint: Endpoint, need: Need, values: tuple[float, ...]) -> None:
        given = tensor("fp16", "FP16", values)
        got = echo(endpoint, [given], binary=True, output=True, model=need(HALF_PRECISION))
        assert got["fp16-out"].datatype == "FP16"
        assert same(got["fp16-out"].array, given.array)

    @pytest.mark.stricter
    @pytest.mark.parametrize(("binary", "output"), [(False, False), (False, True), (True, False)])
    def test_in_json(self, endpoint: Endpoint, need: Need, *, binary: bool, output: bool) -> None:
        given = tensor("fp16", "FP16", self.VALUES)
        got = echo(endpoint, [given], binary=binary, output=output, model=need(HALF_PRECISION))
        assert same(got["fp16-out"].array, given.array)

    @pytest.mark.stricter
    def test_out_of_range_in_json(self, endpoint: Endpoint, need: Need) -> None:
        entry = {"name": "fp16", "datatype": "FP16", "shape": [1], "data": [65536.0]}
        endpoint.refused(need(HALF_PRECISION), {"inputs": [entry]})


class TestLimitsOfJSON:
    """What JSON cannot carry is never made up."""

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_numbers_that_are_not_finite(self, endpoint: Endpoint, need: Need, value: float) -> None:
        """Refused, or written as something that JSON has: never a bare NaN."""
        need(EVERY_DATATYPE)
        inputs = every_datatype(FP32=tensor("fp32", "FP32", [value]))
        document = {"id": "an id", "inputs": [tensor.in_binary() for tensor in inputs]}
        reply = endpoint.infer(EVERY_DATATYPE, document, b"".join(tensor.raw for tensor in inputs))
        assert reply.status == 200 or 400 <= reply.status < 500
        assert isinstance(reply.document, dict)

    @pytest.mark.parametrize(
        ("datatype", "value"),
        [
            ("UINT8", 256),
            ("UINT8", -1),
            ("INT8", 128),
            ("INT32", 2**31),
            ("UINT64", 2**64),
            ("INT64", 2**63),
            ("FP32", 1e39),
            ("INT32", 1.5),
            ("FP32", "1"),
            ("FP32", True),
            ("BOOL", 1),
            ("BOOL", "true"),
            ("BYTES", 1),
            ("INT32", None),
        ],
    )
    @pytest.mark.stricter
    def test_elements_of_another_kind_or_range(
        self, endpoint: Endpoint, need: Need, datatype: str, value: object
    ) -> None:
        need(EVERY_DATATYPE)
        entries = [tensor.in_json() for tensor in every_datatype()]
        entries[DATATYPES.index(datatype)]["data"] = [value]
        endpoint.refused(EVERY_DATATYPE, {"inputs": entries})

    def test_bytes_that_are_no_text(self, endpoint: Endpoint, need: Need) -> None:
        """A runtime may want UTF-8; that is the caller's mistake, never the server's fault."""
        need(EVERY_DATATYPE)
        inputs = every_datatype(BYTES=tensor("bytes", "BYTES", [b"\xff\x00\xfe"]))
        document = {
            "id": "an id",
            "inputs": [tensor.in_binary() for tensor in inputs],
            "parameters": {"binary_data_output": True},
        }
        reply = endpoint.infer(EVERY_DATATYPE, document, b"".join(tensor.raw for tensor in inputs))
        if reply.status == 200:
            assert outputs(reply)["bytes-out"].array.tolist() == [b"\xff\x00\xfe"]
        else:
            assert 400 <= reply.status < 500

    def test_every_dtype_of_the_suite_is_tried(self) -> None:
        assert set(DTYPES) == {*DATATYPES, "FP16"}
