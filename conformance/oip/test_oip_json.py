"""Inference in JSON alone."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from conformance.oip.endpoint import Endpoint
from conformance.oip.names import ADD_SUBTRACT, SCALE
from conformance.oip.requests import A, B, X, add_subtract, changed, scale, without
from conformance.oip.tensors import outputs, same, tensor

Need = Callable[[str], str]


class TestAnswer:
    """An answer names the model, echoes the id, and describes its outputs."""

    def test_outputs(self, endpoint: Endpoint, need: Need) -> None:
        got = outputs(endpoint.infer(need(ADD_SUBTRACT), add_subtract()))
        assert list(got) == ["sum", "difference"]
        assert same(got["sum"].array, A.array + B.array)
        assert same(got["difference"].array, A.array - B.array)
        assert {output.datatype for output in got.values()} == {"FP32"}

    def test_envelope(self, endpoint: Endpoint, need: Need) -> None:
        reply = endpoint.infer(need(ADD_SUBTRACT), add_subtract())
        assert reply.fields["content-type"].split(";")[0] == "application/json"
        assert "inference-header-content-length" not in reply.fields
        document = reply.document
        assert document["model_name"] == ADD_SUBTRACT
        assert isinstance(document.get("model_version", ""), str)

    @pytest.mark.parametrize("given", ["1", "an id", "\u00fc\u65e5", 'quotes "\\', "x" * 200])
    def test_the_id_is_echoed(self, endpoint: Endpoint, need: Need, given: str) -> None:
        document = changed(add_subtract(), "id", to=given)
        assert endpoint.infer(need(ADD_SUBTRACT), document).document["id"] == given

    def test_no_id_is_needed(self, endpoint: Endpoint, need: Need) -> None:
        assert endpoint.infer(need(ADD_SUBTRACT), without(add_subtract(), "id")).status == 200

    def test_outputs_are_shaped(self, endpoint: Endpoint, need: Need) -> None:
        for entry in endpoint.infer(need(ADD_SUBTRACT), add_subtract()).document["outputs"]:
            assert entry["shape"] == [2, 3]
            assert np.array(entry["data"]).size == 6


class TestData:
    """Data may be flat or nested, and is row-major."""

    def test_nested(self, endpoint: Endpoint, need: Need) -> None:
        document = {"inputs": [A.in_json(nested=True), B.in_json(nested=True)]}
        assert same(outputs(endpoint.infer(need(ADD_SUBTRACT), document))["sum"].array, A.array + B.array)

    def test_flat_beside_nested(self, endpoint: Endpoint, need: Need) -> None:
        document = {"inputs": [A.in_json(nested=True), B.in_json()]}
        assert same(outputs(endpoint.infer(need(ADD_SUBTRACT), document))["sum"].array, A.array + B.array)

    def test_inputs_in_another_order(self, endpoint: Endpoint, need: Need) -> None:
        document = {"inputs": [B.in_json(), A.in_json()]}
        got = outputs(endpoint.infer(need(ADD_SUBTRACT), document))
        assert same(got["difference"].array, A.array - B.array)

    def test_whole_numbers_for_floating_point(self, endpoint: Endpoint, need: Need) -> None:
        document = changed(scale(), "inputs", 0, "data", to=[1, 2, 3, 4])
        assert outputs(endpoint.infer(need(SCALE), document, version="1"))["y"].array.ravel().tolist() == [
            2.0,
            4.0,
            6.0,
            8.0,
        ]

    @pytest.mark.parametrize("shape", [(0, 3), (0, 0), (3, 0)])
    def test_no_elements(self, endpoint: Endpoint, need: Need, shape: tuple[int, int]) -> None:
        document = {"inputs": [tensor("x", "FP32", [], shape).in_json()]}
        got = outputs(endpoint.infer(need(SCALE), document))
        assert got["y"].array.shape == shape

    def test_big(self, endpoint: Endpoint, need: Need) -> None:
        """A hundred thousand numbers, some 2 MB of JSON."""
        rows = np.arange(100_000, dtype=np.float32).reshape(1000, 100) / 7
        document = {"inputs": [tensor("x", "FP32", rows).in_json()]}
        got = outputs(endpoint.infer(need(SCALE), document, version="1"))
        assert same(got["y"].array, rows * 2)

    def test_whitespace(self, endpoint: Endpoint, need: Need) -> None:
        content = b" \r\n\t" + json.dumps(add_subtract(), indent=4).encode() + b"\n \n"
        assert endpoint.infer(need(ADD_SUBTRACT), content).status == 200


class TestRequestedOutputs:
    """Outputs that are asked for come, in that order, and no others."""

    @pytest.mark.parametrize("names", [("sum",), ("difference",), ("difference", "sum")])
    def test_some(self, endpoint: Endpoint, need: Need, names: tuple[str, ...]) -> None:
        document = {**add_subtract(), "outputs": [{"name": name} for name in names]}
        got = outputs(endpoint.infer(need(ADD_SUBTRACT), document))
        assert sorted(got) == sorted(names)

    def test_none_asks_for_all(self, endpoint: Endpoint, need: Need) -> None:
        document = {**add_subtract(), "outputs": []}
        assert len(outputs(endpoint.infer(need(ADD_SUBTRACT), document))) == 2


class TestParameters:
    """Parameters that a server does not know change nothing."""

    @pytest.mark.parametrize("value", [True, 7, 0.5, "text"])
    def test_of_the_request(self, endpoint: Endpoint, need: Need, value: object) -> None:
        document = {**add_subtract(), "parameters": {"custom": value}}
        assert endpoint.infer(need(ADD_SUBTRACT), document).status == 200

    def test_of_inputs_and_outputs(self, endpoint: Endpoint, need: Need) -> None:
        document = {**add_subtract(), "outputs": [{"name": "sum", "parameters": {"custom": 1}}]}
        document = changed(document, "inputs", 0, "parameters", to={"custom": "text"})
        assert endpoint.infer(need(ADD_SUBTRACT), document).status == 200

    def test_a_generous_timeout(self, endpoint: Endpoint, need: Need) -> None:
        """Triton's `timeout`, in microseconds."""
        document = {**add_subtract(), "parameters": {"timeout": 30_000_000}}
        assert endpoint.infer(need(ADD_SUBTRACT), document).status == 200

    def test_members_that_nobody_knows(self, endpoint: Endpoint, need: Need) -> None:
        document = changed({**add_subtract(), "extra": {"a": [1]}}, "inputs", 0, "extra", to=None)
        assert endpoint.infer(need(ADD_SUBTRACT), document).status == 200


class TestVersions:
    """A version in the path is the one that computes; without one, a server picks."""

    @pytest.mark.parametrize(("version", "factor"), [("1", 2.0), ("2", 3.0)])
    def test_named(self, endpoint: Endpoint, need: Need, version: str, factor: float) -> None:
        reply = endpoint.infer(need(SCALE), scale(), version=version)
        assert same(outputs(reply)["y"].array, X.array * np.float32(factor))
        assert reply.document["model_version"] == version

    def test_not_named(self, endpoint: Endpoint, need: Need) -> None:
        """The answer says which one it was."""
        reply = endpoint.infer(need(SCALE), scale())
        factor = {"1": 2.0, "2": 3.0}[reply.document["model_version"]]
        assert same(outputs(reply)["y"].array, X.array * np.float32(factor))

    def test_the_newest_unless_named(self, endpoint: Endpoint, need: Need) -> None:
        assert endpoint.infer(need(SCALE), scale()).document["model_version"] == "2"
