"""What of the Open Inference Protocol is fuzzed: every decoder of bytes from a peer.

A target takes any bytes. They are accepted, or rejected with `OIPError` and a status of 4xx; anything else is
a fault. What is accepted has to be what Python's own JSON reads in it, and the same after it was written and
read again, in JSON where JSON can carry it and in binary always.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    NUMPY_TYPES,
    InferRequest,
    InferResponse,
    OIPError,
    RequestedOutput,
    Tensor,
    bind_raw_input,
    decode_infer_request,
    decode_infer_response,
    encode_infer_request,
    encode_infer_response,
    infer_path,
    metadata_path,
    parse_header_length,
    parse_path,
)

SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [-0.5, 65504.0],
    "BF16": [0, 65535],
    "FP32": [0.1, -3.0e38],
    "FP64": [0.1, 1.0e308],
    "BYTES": [b"", b'a"\\,[]'],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A decoder.

    Args:
        run: Takes any bytes, and checks what it made of them.
        seeds: Returns honest bytes to start from.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], tuple[bytes, ...]]

    def __call__(self, data: bytes) -> bool:
        """Tell whether `data` is accepted; whatever is not documented gets out."""
        try:
            self.run(data)
        except OIPError as error:
            assert 400 <= error.status < 500
            assert str(error).isprintable() or "\n" not in str(error)
            return False
        return True


def tensor(datatype: str, name: str = "x", shape: tuple[int, ...] = (2,)) -> Tensor:
    """Return a tensor of the extremes of a datatype."""
    array = np.empty(2, NUMPY_TYPES[datatype])
    array[:] = SAMPLES[datatype]
    return Tensor(name=name, datatype=datatype, array=array.reshape(shape))


def assert_same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> None:
    """Names, datatypes, shapes, parameters and elements are equal, those that are no numbers among them."""
    for one, other in zip(first, second, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
        assert one.parameters == other.parameters
        is_bytes = one.datatype == "BYTES"
        assert one.array.tolist() == other.array.tolist() if is_bytes else same_bits(one, other)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether the elements are the same to the bit."""
    return one.array.tobytes() == other.array.tobytes()


def reject_constant(name: str) -> NoReturn:
    """There is no NaN and no Infinity in JSON."""
    raise AssertionError(f"{name} was accepted")


def assert_as_python_reads(head: bytes, tensors: tuple[Tensor, ...], member: str) -> dict[str, Any]:
    """Compare `tensors` with what `json` makes of the same text."""
    document: dict[str, Any] = json.loads(head.decode(), parse_constant=reject_constant)
    for found, said in zip(tensors, document[member], strict=True):
        assert (found.name, found.datatype, list(found.shape)) == (
            said["name"],
            said["datatype"],
            said["shape"],
        )
        if "data" in said:
            flat = flatten(said["data"])
            if found.datatype == "BYTES":
                assert found.array.ravel().tolist() == [text.encode() for text in flat]
            else:
                assert all(type(element) in elements_of(found.datatype) for element in flat)
                assert np.array(flat, found.array.dtype).tobytes() == found.array.tobytes()
    return document


def elements_of(datatype: str) -> tuple[type, ...]:
    """Return the types that elements of JSON may have."""
    kind = NUMPY_TYPES[datatype].kind
    return (bool,) if kind == "b" else (int, float) if kind == "f" else (int,)


def flatten(data: Any) -> list[Any]:
    """Return the elements of nested lists, in order."""
    found, rest = [], [data]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest.extend(reversed(value))
        else:
            found.append(value)
    return found


def request(data: bytes, header_length: int | None = None) -> None:
    """Decode a request, and write and read again what it held."""
    decoded = decode_infer_request(data, header_length, model="m")
    if decoded.raw is not None:
        return
    document = assert_as_python_reads(data[:header_length], decoded.inputs, "inputs")
    assert document.get("id") == decoded.id
    for is_binary in (True, False):
        try:
            content, fields = encode_infer_request(decoded, binary=is_binary)
        except OIPError:
            assert not is_binary
            continue
        again = decode_infer_request(content, length_of(fields), model="m")
        assert_same(decoded.inputs, again.inputs)
        assert (decoded.id, decoded.outputs) == (again.id, again.outputs)
        assert decoded.parameters == again.parameters


def response(data: bytes, header_length: int | None = None) -> None:
    """Decode a response, and write and read again what it held."""
    decoded = decode_infer_response(data, header_length)
    assert_as_python_reads(data[:header_length], decoded.outputs, "outputs")
    asked = InferRequest(model="m", inputs=(), is_output_binary=True)
    content, fields = encode_infer_response(decoded, asked)
    again = decode_infer_response(content, length_of(fields))
    assert_same(decoded.outputs, again.outputs)
    assert (decoded.id, decoded.model, decoded.version) == (again.id, again.model, again.version)


def length_of(fields: tuple[tuple[str, str], ...]) -> int | None:
    """Return the length of the JSON that fields say."""
    return parse_header_length(dict(fields).get(HEADER_LENGTH_FIELD))


def with_length(run: Callable[[bytes, int | None], None]) -> Callable[[bytes], None]:
    """Return what takes the header field as the first line of its bytes."""

    def read(data: bytes) -> None:
        line, _, content = data.partition(b"\n")
        run(content, parse_header_length(line.decode("latin-1")))

    return read


def raw(data: bytes) -> None:
    """Bind a raw request to inputs of many shapes; some fits or none does."""
    decoded = decode_infer_request(data, 0, model="m")
    for shape in ((-1,), (-1, 2), (-1, -1), (2, -1, 0), (-1, 3, -1), ()):
        for datatype in ("FP32", "BOOL", "INT64"):
            try:
                bound = bind_raw_input(decoded, name="x", datatype=datatype, shape=shape)
            except OIPError:
                continue
            assert bound.inputs[0].array.tobytes() == data


def path(data: bytes) -> None:
    """Parse a method and a path; a path that is accepted is the one that its route has."""
    method, _, text = data.decode("latin-1").partition(" ")
    route = parse_path(method, text)
    if route.model is not None and "/repository/" not in text:
        metadata = metadata_path(route.model, route.version)
        assert text in (infer_path(route.model, route.version), metadata, f"{metadata}/ready")


def request_seeds(is_binary: bool) -> tuple[bytes, ...]:
    """Return honest requests of every datatype."""
    outputs = (RequestedOutput(name="y", is_binary=True, parameters={"classification": 2}),)
    found = []
    for datatype in SAMPLES:
        if datatype == "BF16" and not is_binary:
            continue
        inputs = (tensor(datatype), tensor(datatype, "z", (1, 2, 1)))
        asked = InferRequest(model="m", id="7", inputs=inputs, outputs=outputs, parameters={"p": 1})
        content, fields = encode_infer_request(asked, binary=is_binary)
        found.append(prefixed(content, fields) if is_binary else content)
    if not is_binary:
        found.append(
            b'{"inputs":[{"name":"x","shape":[2,1,2],"datatype":"FP64","data":[[[1,-2e3]],[[0.5,4]]]},'
            b'{"name":"t","shape":[2,1],"datatype":"BYTES","data":[["a\\u00fc"],["[]"]]}],"outputs":null}'
        )
    return tuple(found)


def response_seeds(is_binary: bool) -> tuple[bytes, ...]:
    """Return honest responses of every datatype that JSON carries."""
    asked = InferRequest(model="m", inputs=(), is_output_binary=is_binary)
    answer = InferResponse(model="m", version="2", id="7", outputs=(), parameters={"p": 0.5})
    found = []
    for datatype in SAMPLES:
        if datatype != "BF16":
            outputs = (tensor(datatype),)
            content, fields = encode_infer_response(dataclasses.replace(answer, outputs=outputs), asked)
            found.append(prefixed(content, fields) if is_binary else content)
    return tuple(found)


def prefixed(content: bytes, fields: tuple[tuple[str, str], ...]) -> bytes:
    """Return content after a line with the length of its JSON."""
    return f"{length_of(fields)}\n".encode() + content


PATHS = (
    b"GET /v2",
    b"GET /v2/",
    b"GET /v2/health/live",
    b"GET /v2/models/ready",
    b"GET /v2/models/tumours-2/versions/12/ready",
    b"POST /v2/models/tumours/infer",
    b"POST /v2/repository/index",
    b"POST /v2/repository/models/tumours/load",
)
TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "oip-request-json": Target(run=request, seeds=lambda: request_seeds(is_binary=False)),
        "oip-request-binary": Target(run=with_length(request), seeds=lambda: request_seeds(is_binary=True)),
        "oip-response-json": Target(run=response, seeds=lambda: response_seeds(is_binary=False)),
        "oip-response-binary": Target(
            run=with_length(response), seeds=lambda: response_seeds(is_binary=True)
        ),
        "oip-raw": Target(run=raw, seeds=lambda: (bytes(16), b"\x01" * 24)),
        "oip-path": Target(run=path, seeds=lambda: PATHS),
    }
)
