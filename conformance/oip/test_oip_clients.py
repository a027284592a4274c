"""Unmodified clients, used as their documentation says: they have to work, and to see errors as such."""

from collections.abc import Callable

import numpy as np
import pytest

from conformance.oip.names import ADD_SUBTRACT, DATATYPES, EVERY_DATATYPE, HALF_PRECISION, MODELS, SCALE
from conformance.oip.programs import CLIENT_NAMES, ClientError, Program
from conformance.oip.requests import A, B, X, every_datatype, sample
from conformance.oip.tensors import same, tensor

Need = Callable[[str], str]
Run = Callable[[str], Program]

pytestmark = [pytest.mark.integration]

OVER_HTTP = ("tritonclient http", "tritonclient http aio", "kserve rest")
OF_TRITON = tuple(name for name in CLIENT_NAMES if name.startswith("tritonclient"))
NOT_FOUND = {"404", "NOT_FOUND"}
REFUSED = {"400", "INVALID_ARGUMENT"}


@pytest.fixture(params=CLIENT_NAMES)
def client(request: pytest.FixtureRequest, run_program: Run) -> Program:
    return run_program(request.param)


@pytest.fixture(params=OF_TRITON)
def triton_client(request: pytest.FixtureRequest, run_program: Run) -> Program:
    return run_program(request.param)


@pytest.fixture(params=OVER_HTTP)
def http_client(request: pytest.FixtureRequest, run_program: Run) -> Program:
    return run_program(request.param)


class TestHealth:
    """Every client asks before it infers."""

    def test_live_and_ready(self, client: Program) -> None:
        assert client.call("live") is True
        assert client.call("ready") is True

    def test_a_model_is_ready(self, client: Program, need: Need) -> None:
        assert client.call("model_ready", model=need(SCALE)) is True

    def test_an_unknown_model_is_not(self, client: Program) -> None:
        assert client.call("model_ready", model="nobody") is False

    @pytest.mark.parametrize(("version", "expected"), [("1", True), ("2", True), ("99", False)])
    def test_versions(self, triton_client: Program, need: Need, version: str, *, expected: bool) -> None:
        assert triton_client.call("model_ready", model=need(SCALE), version=version) is expected


class TestMetadata:
    """What clients read of a server and of a model."""

    def test_server(self, triton_client: Program) -> None:
        document = triton_client.call("server_metadata")
        assert document["name"]
        assert "binary_tensor_data" in document["extensions"]

    def test_model(self, triton_client: Program, need: Need) -> None:
        document = triton_client.call("model_metadata", model=need(ADD_SUBTRACT))
        assert [tensor["name"] for tensor in document["inputs"]] == ["a", "b"]
        shapes = {tuple(map(int, tensor["shape"])) for tensor in document["outputs"]}
        assert shapes == {(-1, 3)}

    @pytest.mark.parametrize("version", ["", "1"])
    def test_unknown_model(self, triton_client: Program, version: str) -> None:
        with pytest.raises(ClientError) as refused:
            triton_client.call("model_metadata", model="nobody", version=version)
        assert refused.value.code in NOT_FOUND


class TestInference:
    """Numbers in, numbers out."""

    def test_in_the_client_s_own_way(self, client: Program, need: Need) -> None:
        inferred = client.infer(need(ADD_SUBTRACT), [A, B], request_id="an id")
        assert same(inferred.outputs["sum"].array, A.array + B.array)
        assert same(inferred.outputs["difference"].array, A.array - B.array)
        assert inferred.model == ADD_SUBTRACT
        assert inferred.id == "an id"

    def test_without_an_id(self, client: Program, need: Need) -> None:
        inferred = client.infer(need(ADD_SUBTRACT), [A, B])
        assert same(inferred.outputs["sum"].array, A.array + B.array)

    @pytest.mark.parametrize("binary_inputs", [False, True])
    @pytest.mark.parametrize("binary_outputs", [False, True])
    def test_in_json_and_in_binary(
        self, http_client: Program, need: Need, *, binary_inputs: bool, binary_outputs: bool
    ) -> None:
        inferred = http_client.infer(
            need(ADD_SUBTRACT),
            [A, B],
            outputs=["difference", "sum"],
            binary_inputs=binary_inputs,
            binary_outputs=binary_outputs,
        )
        assert same(inferred.outputs["sum"].array, A.array + B.array)
        assert same(inferred.outputs["difference"].array, A.array - B.array)

    def test_some_outputs(self, client: Program, need: Need) -> None:
        inferred = client.infer(need(ADD_SUBTRACT), [A, B], outputs=["difference"])
        assert list(inferred.outputs) == ["difference"]

    @pytest.mark.parametrize(("version", "factor"), [("1", 2.0), ("2", 3.0)])
    def test_versions(self, triton_client: Program, need: Need, version: str, factor: float) -> None:
        inferred = triton_client.infer(need(SCALE), [X], version=version)
        assert same(inferred.outputs["y"].array, X.array * np.float32(factor))
        assert inferred.version == version

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
    def test_no_elements(self, client: Program, need: Need, shape: tuple[int, int]) -> None:
        inferred = client.infer(need(SCALE), [tensor("x", "FP32", [], shape)])
        assert inferred.outputs["y"].array.shape == shape

    def test_big(self, client: Program, need: Need) -> None:
        """Two megabytes each way: past what a line of text or a window of HTTP/2 holds."""
        rows = np.arange(1 << 19, dtype=np.float32).reshape(512, 1024)
        inferred = client.infer(need(SCALE), [tensor("x", "FP32", rows)])
        got = inferred.outputs["y"].array
        assert any(same(got, rows * np.float32(factor)) for factor in (2, 3))

    @pytest.mark.parametrize("parameters", [{"custom": "text"}, {"flag": True, "count": 3}])
    def test_parameters(self, client: Program, need: Need, parameters: dict[str, object]) -> None:
        inferred = client.infer(need(ADD_SUBTRACT), [A, B], parameters=parameters)
        assert same(inferred.outputs["sum"].array, A.array + B.array)


class TestDatatypes:
    """Every datatype through every client, to the bit."""

    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_extremes(self, client: Program, need: Need, datatype: str) -> None:
        given = sample(datatype)
        inferred = client.infer(need(EVERY_DATATYPE), every_datatype(**{datatype: given}))
        assert inferred.outputs[f"{given.name}-out"].datatype == datatype
        assert same(inferred.outputs[f"{given.name}-out"].array, given.array)

    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_extremes_in_json(self, http_client: Program, need: Need, datatype: str) -> None:
        given = sample(datatype)
        inferred = http_client.infer(
            need(EVERY_DATATYPE),
            every_datatype(**{datatype: given}),
            outputs=[f"{name.lower()}-out" for name in DATATYPES],
            binary_inputs=False,
            binary_outputs=False,
        )
        assert same(inferred.outputs[f"{given.name}-out"].array, given.array)

    def test_half_precision(self, client: Program, need: Need) -> None:
        given = tensor("fp16", "FP16", [0.5, -2.25, 65504.0, np.inf])
        inferred = client.infer(need(HALF_PRECISION), [given])
        assert same(inferred.outputs["fp16-out"].array, given.array)


class TestErrors:
    """A refusal reaches the caller as the library's own error, with the status and the line."""

    def test_unknown_model(self, client: Program) -> None:
        with pytest.raises(ClientError) as refused:
            client.infer("nobody", [X])
        assert refused.value.code in NOT_FOUND
        assert "nobody" in refused.value.message

    def test_unknown_version(self, triton_client: Program, need: Need) -> None:
        with pytest.raises(ClientError) as refused:
            triton_client.infer(need(SCALE), [X], version="99")
        assert refused.value.code in NOT_FOUND

    def test_unknown_input(self, client: Program, need: Need) -> None:
        with pytest.raises(ClientError) as refused:
            client.infer(need(SCALE), [tensor("nothing", "FP32", [[1.0]])])
        assert refused.value.code in REFUSED
        assert "nothing" in refused.value.message

    def test_missing_input(self, client: Program, need: Need) -> None:
        with pytest.raises(ClientError) as refused:
            client.infer(need(ADD_SUBTRACT), [A])
        assert refused.value.code in REFUSED

    def test_wrong_datatype(self, client: Program, need: Need) -> None:
        with pytest.raises(ClientError) as refused:
            client.infer(need(SCALE), [tensor("x", "INT32", [[1]])])
        assert refused.value.code in REFUSED

    def test_wrong_shape(self, client: Program, need: Need) -> None:
        wrong = tensor("a", "FP32", [[1.0, 2.0]])
        with pytest.raises(ClientError) as refused:
            client.infer(need(ADD_SUBTRACT), [wrong, tensor("b", "FP32", [[1.0, 2.0]])])
        assert refused.value.code in REFUSED

    def test_unknown_output(self, client: Program, need: Need) -> None:
        with pytest.raises(ClientError) as refused:
            client.infer(need(SCALE), [X], outputs=["nothing"])
        assert refused.value.code in REFUSED

    def test_a_client_goes_on_after_an_error(self, client: Program, need: Need) -> None:
        with pytest.raises(ClientError):
            client.infer("nobody", [X])
        assert client.infer(need(ADD_SUBTRACT), [A, B]).outputs


class TestRepository:
    """The index, through the clients that have it."""

    def test_index(self, triton_client: Program, need: Need) -> None:
        entries = triton_client.call("index")
        ready = {(e["name"], e["version"]) for e in entries if e["state"] == "READY"}
        assert {need(name) for name in MODELS[:-1]} <= {name for name, _ in ready}
        assert (SCALE, "1") in ready
