"""The binary tensor data extension, in all mixtures.

Source: Triton's binary tensor data extension.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance.oip.endpoint import HEADER_LENGTH, Endpoint
from conformance.oip.names import ADD_SUBTRACT, EVERY_DATATYPE, HALF_PRECISION, SCALE
from conformance.oip.requests import A, B, X, changed, every_datatype
from conformance.oip.tensors import Tensor, binary_names, outputs, same, tensor

Need = Callable[[str], str]

FLAGS = (None, False, True)


def mixed(inputs: tuple[Tensor, ...], binary: tuple[bool, ...]) -> tuple[dict[str, Any], bytes]:
    """Return a request in which some inputs travel in binary."""
    entries = [
        t.in_binary() if is_binary else t.in_json() for t, is_binary in zip(inputs, binary, strict=True)
    ]
    blobs = b"".join(t.raw for t, is_binary in zip(inputs, binary, strict=True) if is_binary)
    return {"id": "an id", "inputs": entries}, blobs


class TestInputs:
    """Each input travels in JSON or behind it."""

    @pytest.mark.parametrize("binary", list(itertools.product((False, True), repeat=2)))
    def test_mixtures(self, endpoint: Endpoint, need: Need, binary: tuple[bool, bool]) -> None:
        document, blobs = mixed((A, B), binary)
        got = outputs(endpoint.infer(need(ADD_SUBTRACT), document, blobs))
        assert same(got["sum"].array, A.array + B.array)
        assert same(got["difference"].array, A.array - B.array)

    def test_the_header_may_count_all_of_it(self, endpoint: Endpoint, need: Need) -> None:
        """JSON alone, with the header that says so."""
        document, _ = mixed((A, B), (False, False))
        fields = {HEADER_LENGTH: str(len(json.dumps(document)))}
        got = outputs(endpoint.infer(need(ADD_SUBTRACT), document, fields=fields))
        assert same(got["sum"].array, A.array + B.array)

    def test_the_names_of_fields_have_no_case(self, endpoint: Endpoint, need: Need) -> None:
        document, blobs = mixed((A, B), (True, True))
        length = str(len(json.dumps(document)))
        reply = endpoint.infer(need(ADD_SUBTRACT), document, blobs, fields={HEADER_LENGTH.upper(): length})
        assert same(outputs(reply)["sum"].array, A.array + B.array)

    @pytest.mark.parametrize("media_type", ["application/octet-stream", "application/json"])
    def test_the_content_type_does_not_matter(self, endpoint: Endpoint, need: Need, media_type: str) -> None:
        document, blobs = mixed((A, B), (True, True))
        fields = {HEADER_LENGTH: str(len(json.dumps(document))), "Content-Type": media_type}
        reply = endpoint.infer(need(ADD_SUBTRACT), document, blobs, fields=fields)
        assert same(outputs(reply)["sum"].array, A.array + B.array)

    def test_big(self, endpoint: Endpoint, need: Need) -> None:
        """Four megabytes, which is past what clients and servers buffer."""
        rows = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
        given = tensor("x", "FP32", rows)
        document = {"inputs": [given.in_binary()], "parameters": {"binary_data_output": True}}
        got = outputs(endpoint.infer(need(SCALE), document, given.raw, version="1"))
        assert same(got["y"].array, rows * 2)


class TestOutputs:
    """An output's own wish goes before the request's."""

    @pytest.mark.parametrize(
        ("request_wish", "wishes"), list(itertools.product(FLAGS, itertools.product(FLAGS, repeat=2)))
    )
    def test_mixtures(
        self,
        endpoint: Endpoint,
        need: Need,
        request_wish: bool | None,  # noqa: FBT001 - pytest gives it by name
        wishes: tuple[bool | None, bool | None],
    ) -> None:
        document, blobs = mixed((A, B), (True, True))
        if request_wish is not None:
            document["parameters"] = {"binary_data_output": request_wish}
        document["outputs"] = [
            {"name": name} if wish is None else {"name": name, "parameters": {"binary_data": wish}}
            for name, wish in zip(("sum", "difference"), wishes, strict=True)
        ]
        reply = endpoint.infer(need(ADD_SUBTRACT), document, blobs)
        got = outputs(reply)
        assert same(got["sum"].array, A.array + B.array)
        assert same(got["difference"].array, A.array - B.array)
        expected = {
            name
            for name, wish in zip(("sum", "difference"), wishes, strict=True)
            if (bool(request_wish) if wish is None else wish)
        }
        assert binary_names(reply) == expected

    def test_json_inputs_and_binary_outputs(self, endpoint: Endpoint, need: Need) -> None:
        document, _ = mixed((A, B), (False, False))
        document["parameters"] = {"binary_data_output": True}
        reply = endpoint.infer(need(ADD_SUBTRACT), document)
        assert binary_names(reply) == {"sum", "difference"}
        assert same(outputs(reply)["sum"].array, A.array + B.array)

    def test_the_content_type_is_no_json(self, endpoint: Endpoint, need: Need) -> None:
        document, blobs = mixed((A, B), (True, True))
        document["parameters"] = {"binary_data_output": True}
        reply = endpoint.infer(need(ADD_SUBTRACT), document, blobs)
        assert reply.fields["content-type"] == "application/octet-stream"

    def test_binary_wishes_do_not_come_back_as_parameters(self, endpoint: Endpoint, need: Need) -> None:
        """Nor do any that the server has read itself."""
        document, blobs = mixed((A, B), (True, True))
        document["parameters"] = {"binary_data_output": True}
        reply = endpoint.infer(need(ADD_SUBTRACT), document, blobs)
        for entry in reply.document["outputs"]:
            assert set(entry["parameters"]) == {"binary_data_size"}


class TestRaw:
    """A header of 0: nothing but one input's bytes, batch 1, all outputs in binary."""

    def test_one_element(self, endpoint: Endpoint, need: Need) -> None:
        reply = endpoint.infer(need(HALF_PRECISION), b"\x00\x3c", fields={HEADER_LENGTH: "0"})
        assert outputs(reply)["fp16-out"].array.tolist() == [1.0]
        assert binary_names(reply) == {"fp16-out"}

    @pytest.mark.stricter
    def test_a_second_variable_dimension_follows_from_the_size(self, endpoint: Endpoint, need: Need) -> None:
        row = np.array([1.0, 2.0, 3.0], np.float32)
        fields = {HEADER_LENGTH: "0", "Content-Type": "application/octet-stream"}
        reply = endpoint.infer(need(SCALE), row.tobytes(), version="1", fields=fields)
        got = outputs(reply)
        assert binary_names(reply) == {"y"}
        assert got["y"].array.tolist() == [[2.0, 4.0, 6.0]]

    def test_two_inputs_reject(self, endpoint: Endpoint, need: Need) -> None:
        endpoint.refused(need(ADD_SUBTRACT), A.raw, fields={HEADER_LENGTH: "0"})

    def test_a_size_that_fits_no_element_rejects(self, endpoint: Endpoint, need: Need) -> None:
        endpoint.refused(need(SCALE), b"\x00" * 7, fields={HEADER_LENGTH: "0"})


def _binary_document() -> tuple[dict[str, Any], bytes]:
    return mixed((A, B), (True, True))


SIZE = ("inputs", 0, "parameters", "binary_data_size")


class TestMistakes:
    """Sizes that contradict each other are the caller's mistake: 400."""

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (SIZE, 23),
            (SIZE, 25),
            (SIZE, 0),
            (SIZE, 48),
            (SIZE, 10**9),
            (SIZE, 2**63),
            (SIZE, -1),
            (SIZE, "24"),
            (SIZE, 24.5),
            (SIZE, None),
            (SIZE, True),
            (("inputs", 0, "shape"), [3, 3]),
            (("inputs", 0, "shape"), [2**31, 2**31]),
            (("inputs", 0, "shape"), [-1, 3]),
            (("inputs", 0, "datatype"), "FP64"),
        ],
    )
    def test_sizes(self, endpoint: Endpoint, need: Need, path: tuple[object, ...], value: object) -> None:
        document, blobs = _binary_document()
        endpoint.refused(need(ADD_SUBTRACT), changed(document, *path, to=value), blobs)

    def test_bytes_left_over(self, endpoint: Endpoint, need: Need) -> None:
        document, blobs = _binary_document()
        endpoint.refused(need(ADD_SUBTRACT), document, blobs + b"\x00")

    def test_bytes_missing(self, endpoint: Endpoint, need: Need) -> None:
        document, blobs = _binary_document()
        endpoint.refused(need(ADD_SUBTRACT), document, blobs[:-1])

    @pytest.mark.stricter
    def test_data_both_ways(self, endpoint: Endpoint, need: Need) -> None:
        document, blobs = _binary_document()
        both = changed(document, "inputs", 0, "data", to=A.in_json()["data"])
        endpoint.refused(need(ADD_SUBTRACT), both, blobs)

    @pytest.mark.parametrize("length", ["-1", "abc", "1e2", "0x10", "99999999", "1", str(2**64), "12, 12"])
    def test_header(self, endpoint: Endpoint, need: Need, length: str) -> None:
        document, blobs = _binary_document()
        endpoint.refused(need(ADD_SUBTRACT), document, blobs, fields={HEADER_LENGTH: length})

    @pytest.mark.parametrize("value", [1, "yes", None])
    @pytest.mark.stricter
    def test_wishes(self, endpoint: Endpoint, need: Need, value: object) -> None:
        document, blobs = _binary_document()
        document["outputs"] = [{"name": "sum", "parameters": {"binary_data": value}}]
        endpoint.refused(need(ADD_SUBTRACT), document, blobs)

    @pytest.mark.parametrize(
        "raw",
        [b"\x05\x00\x00\x00abcd", b"\x01\x00\x00", b"\xff\xff\xff\xffa", b"\x00" * 8],
        ids=["cut", "no length", "huge length", "two elements"],
    )
    def test_bytes_elements(self, endpoint: Endpoint, need: Need, raw: bytes) -> None:
        need(EVERY_DATATYPE)
        entries = [t.in_json() for t in every_datatype()[:-1]]
        last = {
            "name": "bytes",
            "datatype": "BYTES",
            "shape": [1],
            "parameters": {"binary_data_size": len(raw)},
        }
        endpoint.refused(EVERY_DATATYPE, {"inputs": [*entries, last]}, raw)

    @pytest.mark.stricter
    def test_a_boolean_is_0_or_1(self, endpoint: Endpoint, need: Need) -> None:
        need(EVERY_DATATYPE)
        entries = [t.in_json() for t in every_datatype()[1:]]
        first = {"name": "bool", "datatype": "BOOL", "shape": [1], "parameters": {"binary_data_size": 1}}
        endpoint.refused(EVERY_DATATYPE, {"inputs": [first, *entries]}, b"\x02")


def test_an_input_of_one_element_is_its_bytes() -> None:
    """The suite's own encoder, held to bytes written by hand."""
    assert tensor("x", "BYTES", [b"ab"]).raw == b"\x02\x00\x00\x00ab"
    assert tensor("x", "INT16", [-2]).raw == b"\xfe\xff"
    assert X.raw == np.array([1.0, -2.0, 0.5, 4.0], "<f4").tobytes()
