"""The six RPCs and the repository's three, in both forms of contents, and what is wrong with them.

Source: Open Inference Protocol, "gRPC"; Triton's model repository extension.
"""

import base64
import struct
from collections.abc import Callable
from typing import Any

import pytest

from conformance.oip.names import ADD_SUBTRACT, DATATYPES, EVERY_DATATYPE, HALF_PRECISION, SCALE
from conformance.oip.programs import ClientError, Program
from conformance.oip.requests import A, B, X, changed, every_datatype, sample, without
from conformance.oip.tensors import Tensor, from_raw, same, tensor

Need = Callable[[str], str]
Run = Callable[[str], Program]
Message = dict[str, Any]

pytestmark = [pytest.mark.integration]

# Which field of the typed contents holds a datatype; FP16 has none.
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@pytest.fixture
def grpc(run_program: Run) -> Program:
    return run_program("grpc calls")


def send(grpc: Program, rpc: str, message: Message | None = None) -> Message:
    reply: Message = grpc.call("send", rpc=rpc, message=message or {})
    return reply


def code_of(grpc: Program, rpc: str, message: Message) -> str | None:
    """Send what has to be refused, and return the code; there is a line with it."""
    with pytest.raises(ClientError) as refused:
        send(grpc, rpc, message)
    assert refused.value.message
    return refused.value.code


def described(given: Tensor) -> Message:
    return {"name": given.name, "datatype": given.datatype, "shape": list(given.array.shape)}


def typed(given: Tensor) -> Message:
    """Describe an input with its elements in the field of its datatype."""
    elements = given.array.ravel().tolist()
    if given.datatype == "BYTES":
        elements = [base64.b64encode(element).decode() for element in elements]
    return {**described(given), "contents": {CONTENTS[given.datatype]: elements}}


def in_raw(model: str, *given: Tensor, **members: object) -> Message:
    """Return a request whose contents are raw."""
    raw = [base64.b64encode(one.raw).decode() for one in given]
    inputs = [described(one) for one in given]
    return {"model_name": model, "id": "an id", "inputs": inputs, "raw_input_contents": raw, **members}


def in_fields(model: str, *given: Tensor, **members: object) -> Message:
    """Return a request whose contents are typed."""
    return {"model_name": model, "id": "an id", "inputs": [typed(one) for one in given], **members}


def read(reply: Message) -> dict[str, Tensor]:
    """Read the outputs of a reply, in whichever form they came."""
    raws = [base64.b64decode(raw) for raw in reply["raw_output_contents"]]
    assert not raws or len(raws) == len(reply["outputs"])
    found = {}
    for index, entry in enumerate(reply["outputs"]):
        shape = tuple(map(int, entry["shape"]))
        name, datatype = entry["name"], entry["datatype"]
        if raws:
            assert not entry.get("contents"), "expected contents raw or typed, got both"
            found[name] = from_raw(name, datatype, shape, raws[index])
        else:
            elements = entry["contents"][CONTENTS[datatype]]
            if datatype == "BYTES":
                elements = [base64.b64decode(element) for element in elements]
            elif CONTENTS[datatype].endswith("64_contents") and not datatype.startswith("FP"):
                elements = [int(element) for element in elements]
            found[name] = tensor(name, datatype, elements, shape)
    return found


class TestServer:
    """Health and metadata."""

    @pytest.mark.parametrize(("rpc", "member"), [("ServerLive", "live"), ("ServerReady", "ready")])
    def test_health(self, grpc: Program, rpc: str, member: str) -> None:
        assert send(grpc, rpc) == {member: True}

    def test_metadata(self, grpc: Program) -> None:
        reply = send(grpc, "ServerMetadata")
        assert reply["name"]
        assert reply["version"]

    @pytest.mark.parametrize("version", ["", "1", "2"])
    def test_model_metadata(self, grpc: Program, need: Need, version: str) -> None:
        reply = send(grpc, "ModelMetadata", {"name": need(SCALE), "version": version})
        assert reply["name"] == SCALE
        (entry,) = reply["inputs"]
        assert (entry["name"], entry["datatype"], list(map(int, entry["shape"]))) == ("x", "FP32", [-1, -1])

    def test_every_datatype_is_named(self, grpc: Program, need: Need) -> None:
        reply = send(grpc, "ModelMetadata", {"name": need(EVERY_DATATYPE)})
        assert [entry["datatype"] for entry in reply["outputs"]] == list(DATATYPES)

    @pytest.mark.parametrize(
        ("name", "version", "ready"),
        [(SCALE, "", True), (SCALE, "2", True), (SCALE, "99", False), ("nobody", "", False)],
    )
    def test_model_ready(self, grpc: Program, need: Need, name: str, version: str, *, ready: bool) -> None:
        need(SCALE)
        assert send(grpc, "ModelReady", {"name": name, "version": version}) == {"ready": ready}

    @pytest.mark.parametrize(("name", "version"), [("nobody", ""), (SCALE, "99"), ("No Body/", "")])
    def test_unknown_metadata(self, grpc: Program, need: Need, name: str, version: str) -> None:
        need(SCALE)
        assert code_of(grpc, "ModelMetadata", {"name": name, "version": version}) == "NOT_FOUND"


class TestInference:
    """Contents are raw or typed, and the answer says which they are."""

    @pytest.mark.parametrize("form", [in_raw, in_fields])
    def test_outputs(self, grpc: Program, need: Need, form: Callable[..., Message]) -> None:
        reply = send(grpc, "ModelInfer", form(need(ADD_SUBTRACT), A, B))
        got = read(reply)
        assert same(got["sum"].array, A.array + B.array)
        assert same(got["difference"].array, A.array - B.array)
        assert reply["model_name"] == ADD_SUBTRACT
        assert reply["id"] == "an id"

    @pytest.mark.parametrize("form", [in_raw, in_fields])
    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_datatypes(self, grpc: Program, need: Need, datatype: str, form: Callable[..., Message]) -> None:
        given = sample(datatype)
        inputs = every_datatype(**{datatype: given})
        got = read(send(grpc, "ModelInfer", form(need(EVERY_DATATYPE), *inputs)))
        assert same(got[f"{given.name}-out"].array, given.array)

    @pytest.mark.parametrize("form", [in_raw, in_fields])
    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_no_elements(
        self, grpc: Program, need: Need, datatype: str, form: Callable[..., Message]
    ) -> None:
        given = tensor(datatype.lower(), datatype, [])
        inputs = every_datatype(**{datatype: given})
        got = read(send(grpc, "ModelInfer", form(need(EVERY_DATATYPE), *inputs)))
        assert got[f"{given.name}-out"].array.shape == (0,)

    def test_half_precision_is_raw(self, grpc: Program, need: Need) -> None:
        given = tensor("fp16", "FP16", [0.5, -65504.0])
        got = read(send(grpc, "ModelInfer", in_raw(need(HALF_PRECISION), given)))
        assert same(got["fp16-out"].array, given.array)

    def test_half_precision_has_no_field(self, grpc: Program, need: Need) -> None:
        entry = {"name": "fp16", "datatype": "FP16", "shape": [1], "contents": {"fp32_contents": [0.5]}}
        message = {"model_name": need(HALF_PRECISION), "inputs": [entry]}
        assert code_of(grpc, "ModelInfer", message) == "INVALID_ARGUMENT"

    def test_not_a_number(self, grpc: Program, need: Need) -> None:
        given = tensor("x", "FP32", [[float("nan"), float("inf")]])
        got = read(send(grpc, "ModelInfer", in_raw(need(SCALE), given)))
        assert same(got["y"].array, given.array)

    @pytest.mark.parametrize(("version", "factor"), [("1", 2.0), ("2", 3.0)])
    def test_versions(self, grpc: Program, need: Need, version: str, factor: float) -> None:
        reply = send(grpc, "ModelInfer", in_raw(need(SCALE), X, model_version=version))
        assert reply["model_version"] == version
        assert same(read(reply)["y"].array, (X.array * factor).astype("<f4"))

    def test_requested_outputs(self, grpc: Program, need: Need) -> None:
        message = in_raw(need(ADD_SUBTRACT), A, B, outputs=[{"name": "difference"}])
        assert list(read(send(grpc, "ModelInfer", message))) == ["difference"]

    def test_parameters(self, grpc: Program, need: Need) -> None:
        parameters = {"a": {"bool_param": True}, "b": {"int64_param": "7"}, "c": {"string_param": "text"}}
        message = in_raw(need(ADD_SUBTRACT), A, B, parameters=parameters)
        assert read(send(grpc, "ModelInfer", message))


class TestRefusals:
    """The caller's mistakes are INVALID_ARGUMENT, what is not there NOT_FOUND; nothing is INTERNAL."""

    @pytest.mark.parametrize(("model", "version"), [("nobody", ""), (SCALE, "99")])
    def test_unknown(self, grpc: Program, need: Need, model: str, version: str) -> None:
        need(SCALE)
        message = in_raw(model, X, model_version=version)
        assert code_of(grpc, "ModelInfer", message) == "NOT_FOUND"

    def test_no_model(self, grpc: Program) -> None:
        code = code_of(grpc, "ModelInfer", in_raw("", X))
        assert code in {"INVALID_ARGUMENT", "NOT_FOUND"}

    def test_both_forms(self, grpc: Program, need: Need) -> None:
        message = {**in_fields(need(ADD_SUBTRACT), A, B)}
        message["raw_input_contents"] = in_raw(ADD_SUBTRACT, A, B)["raw_input_contents"]
        assert code_of(grpc, "ModelInfer", message) == "INVALID_ARGUMENT"

    def test_one_form_each(self, grpc: Program, need: Need) -> None:
        message = in_raw(need(ADD_SUBTRACT), A, B)
        message["inputs"][1] = typed(B)
        del message["raw_input_contents"][1]
        assert code_of(grpc, "ModelInfer", message) == "INVALID_ARGUMENT"

    RAW: tuple[tuple[str, Message], ...] = (
        ("fewer raw", without(in_raw(ADD_SUBTRACT, A, B), "raw_input_contents", 1)),
        ("short raw", changed(in_raw(ADD_SUBTRACT, A, B), "raw_input_contents", 0, to="AAAA")),
        ("empty raw", changed(in_raw(ADD_SUBTRACT, A, B), "raw_input_contents", 0, to="")),
        ("missing", in_raw(ADD_SUBTRACT, A)),
        ("duplicate", in_raw(ADD_SUBTRACT, A, A)),
        ("unknown", changed(in_raw(ADD_SUBTRACT, A, B), "inputs", 0, "name", to="c")),
        ("no inputs", {"model_name": ADD_SUBTRACT}),
        ("wrong datatype", changed(in_raw(ADD_SUBTRACT, A, B), "inputs", 0, "datatype", to="INT32")),
        ("unknown datatype", changed(in_raw(ADD_SUBTRACT, A, B), "inputs", 0, "datatype", to="FP31")),
        ("wrong shape", changed(in_raw(ADD_SUBTRACT, A, B), "inputs", 0, "shape", to=[3, 2])),
        ("negative shape", changed(in_raw(ADD_SUBTRACT, A, B), "inputs", 0, "shape", to=[-2, -3])),
        ("huge shape", changed(in_raw(ADD_SUBTRACT, A, B), "inputs", 0, "shape", to=[2**62, 2**62])),
        ("unknown output", in_raw(ADD_SUBTRACT, A, B, outputs=[{"name": "nothing"}])),
    )

    @pytest.mark.parametrize("message", [case[1] for case in RAW], ids=[case[0] for case in RAW])
    def test_raw(self, grpc: Program, need: Need, message: Message) -> None:
        need(ADD_SUBTRACT)
        assert code_of(grpc, "ModelInfer", message) == "INVALID_ARGUMENT"

    PLACE = ("inputs", 0, "contents")
    TYPED: tuple[tuple[str, Message], ...] = (
        ("another field", changed(in_fields(ADD_SUBTRACT, A, B), *PLACE, to={"int_contents": [1] * 6})),
        ("too few", changed(in_fields(ADD_SUBTRACT, A, B), *PLACE, to={"fp32_contents": [1.0] * 5})),
        ("too many", changed(in_fields(ADD_SUBTRACT, A, B), *PLACE, to={"fp32_contents": [1.0] * 7})),
        ("none", changed(in_fields(ADD_SUBTRACT, A, B), *PLACE, to={})),
    )

    @pytest.mark.parametrize("message", [case[1] for case in TYPED], ids=[case[0] for case in TYPED])
    def test_typed(self, grpc: Program, need: Need, message: Message) -> None:
        need(ADD_SUBTRACT)
        assert code_of(grpc, "ModelInfer", message) == "INVALID_ARGUMENT"

    @pytest.mark.stricter
    def test_two_fields(self, grpc: Program, need: Need) -> None:
        both = {"fp32_contents": [1.0] * 6, "int_contents": [1]}
        message = changed(in_fields(need(ADD_SUBTRACT), A, B), *self.PLACE, to=both)
        assert code_of(grpc, "ModelInfer", message) == "INVALID_ARGUMENT"

    @pytest.mark.parametrize(("datatype", "value"), [("UINT8", 256), ("INT8", 128), ("INT16", -(2**15) - 1)])
    @pytest.mark.stricter
    def test_out_of_range(self, grpc: Program, need: Need, datatype: str, value: int) -> None:
        """Small integers travel in fields of 32 bits, and must not be cut."""
        message = in_fields(need(EVERY_DATATYPE), *every_datatype())
        place = ("inputs", DATATYPES.index(datatype), "contents", CONTENTS[datatype])
        assert code_of(grpc, "ModelInfer", changed(message, *place, to=[value])) == "INVALID_ARGUMENT"

    def test_it_answers_after_refusing(self, grpc: Program, need: Need) -> None:
        code_of(grpc, "ModelInfer", in_raw("nobody", X))
        got = read(send(grpc, "ModelInfer", in_raw(need(ADD_SUBTRACT), A, B)))
        assert same(got["sum"].array, A.array + B.array)


class TestRepository:
    """The index, and what may not be loaded."""

    def test_index(self, grpc: Program, need: Need) -> None:
        models = send(grpc, "RepositoryIndex")["models"]
        states = {(entry["name"], entry["version"]): entry["state"] for entry in models}
        assert states[need(SCALE), "1"] == "READY"

    @pytest.mark.parametrize("rpc", ["RepositoryModelLoad", "RepositoryModelUnload"])
    def test_unknown_model(self, grpc: Program, rpc: str) -> None:
        code = code_of(grpc, rpc, {"model_name": "nobody"})
        assert code in {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED"}


def test_small_integers_are_little_endian() -> None:
    """The suite's own encoder, held to the standard library's."""
    assert tensor("x", "UINT64", [2**64 - 1]).raw == struct.pack("<Q", 2**64 - 1)
