"""The error table: a caller's mistake is 400 with a line that helps, what is not there 404, nothing 500."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from conformance.oip.endpoint import Endpoint
from conformance.oip.names import ADD_SUBTRACT, SCALE
from conformance.oip.requests import A, add_subtract, changed, scale, without

Need = Callable[[str], str]

FIRST = ("inputs", 0)
DATA = (*FIRST, "data")
GOOD = json.dumps(add_subtract()).encode()


class TestDocument:
    """A refusal has the protocol's document."""

    @pytest.mark.parametrize(
        "document",
        [b"{", without(add_subtract(), "inputs"), changed(add_subtract(), *FIRST, "name", to="c")],
        ids=["malformed", "no inputs", "unknown input"],
    )
    def test_error(self, endpoint: Endpoint, need: Need, document: object) -> None:
        reply = endpoint.infer(need(ADD_SUBTRACT), document)
        assert 400 <= reply.status < 500
        assert reply.error
        assert reply.fields["content-type"].split(";")[0] == "application/json"


class TestMalformed:
    """No request at all."""

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"7",
            b'"text"',
            b"{}",
            b"\xff\xfe{}",
            b"\x00",
            GOOD[:-1],
            GOOD + b"x",
            GOOD + GOOD,
            GOOD.replace(b'"inputs"', b"inputs"),
            GOOD.replace(b'"', b"'"),
            GOOD.replace(b"1.5", b"1.5,"),
        ],
        ids=[
            "empty",
            "open",
            "null",
            "list",
            "number",
            "text",
            "empty object",
            "not UTF-8",
            "zero",
            "cut",
            "trailing byte",
            "trailing document",
            "bare key",
            "single quotes",
            "trailing comma",
        ],
    )
    def test_content(self, endpoint: Endpoint, need: Need, content: bytes) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, content)

    @pytest.mark.parametrize(
        "literal", [b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"0x1", b"1_0"]
    )
    def test_numbers_that_json_does_not_have(self, endpoint: Endpoint, need: Need, literal: bytes) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, GOOD.replace(b"1.5", literal))

    @pytest.mark.parametrize("opening", [b"[", b'{"a":'])
    def test_nesting(self, endpoint: Endpoint, need: Need, opening: bytes) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, opening * 100_000)

    def test_nesting_in_data(self, endpoint: Endpoint, need: Need) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, GOOD.replace(b"1.5", b"[" * 50_000 + b"]" * 50_000))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'"id"', b'"inputs": [], "id"'),
            (b'"id"', b'"id": "other", "id"'),
            (b'"shape"', b'"shape": [1], "shape"'),
            (b'"data"', b'"data": [1], "data"'),
        ],
        ids=["inputs", "id", "shape", "data"],
    )
    @pytest.mark.stricter
    def test_a_key_twice(self, endpoint: Endpoint, need: Need, old: bytes, new: bytes) -> None:
        """Readers differ in which of the two they see."""
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, GOOD.replace(old, new, 1))


class TestInputs:
    """Inputs that are not the model's."""

    CASES: tuple[tuple[str, dict[str, Any]], ...] = (
        ("no inputs", without(add_subtract(), "inputs")),
        ("empty inputs", changed(add_subtract(), "inputs", to=[])),
        ("inputs object", changed(add_subtract(), "inputs", to={})),
        ("inputs null", changed(add_subtract(), "inputs", to=None)),
        ("inputs of text", changed(add_subtract(), "inputs", to=["a"])),
        ("missing", changed(add_subtract(), "inputs", to=[A.in_json()])),
        ("unknown", changed(add_subtract(), *FIRST, "name", to="c")),
        ("duplicate", changed(add_subtract(), "inputs", to=[A.in_json(), A.in_json()])),
        ("no name", without(add_subtract(), *FIRST, "name")),
        ("name of number", changed(add_subtract(), *FIRST, "name", to=1)),
        ("no datatype", without(add_subtract(), *FIRST, "datatype")),
        ("wrong datatype", changed(add_subtract(), *FIRST, "datatype", to="FP64")),
        ("unknown datatype", changed(add_subtract(), *FIRST, "datatype", to="FP128")),
        ("lower-case datatype", changed(add_subtract(), *FIRST, "datatype", to="fp32")),
        ("no shape", without(add_subtract(), *FIRST, "shape")),
        ("shape of text", changed(add_subtract(), *FIRST, "shape", to=["2", "3"])),
        ("shape number", changed(add_subtract(), *FIRST, "shape", to=6)),
        ("shape of fractions", changed(add_subtract(), *FIRST, "shape", to=[2.5, 3])),
        ("negative dimension", changed(add_subtract(), *FIRST, "shape", to=[-2, -3])),
        ("variable dimension", changed(add_subtract(), *FIRST, "shape", to=[-1, 3])),
        ("another rank", changed(add_subtract(), *FIRST, "shape", to=[6])),
        ("more dimensions", changed(add_subtract(), *FIRST, "shape", to=[1, 2, 3])),
        ("shape against the data", changed(add_subtract(), *FIRST, "shape", to=[3, 3])),
        ("shape against the model", changed(add_subtract(), *FIRST, "shape", to=[3, 2])),
        ("huge shape", changed(add_subtract(), *FIRST, "shape", to=[2**31 - 1, 3])),
        ("overflowing shape", changed(add_subtract(), *FIRST, "shape", to=[2**62, 4, 3])),
        ("past integers", changed(add_subtract(), *FIRST, "shape", to=[2**64, 3])),
        ("no data", without(add_subtract(), *DATA)),
        ("data null", changed(add_subtract(), *DATA, to=None)),
        ("data object", changed(add_subtract(), *DATA, to={})),
        ("data text", changed(add_subtract(), *DATA, to="1.5")),
        ("data number", changed(add_subtract(), *DATA, to=1.5)),
        ("data of text", changed(add_subtract(), *DATA, to=["1"] * 6)),
        ("data of null", changed(add_subtract(), *DATA, to=[None] * 6)),
        ("ragged data", changed(add_subtract(), *DATA, to=[[1, 2, 3], [4, 5]])),
        ("too few", changed(add_subtract(), *DATA, to=[1.0] * 5)),
        ("too many", changed(add_subtract(), *DATA, to=[1.0] * 7)),
    )

    @pytest.mark.parametrize("document", [case[1] for case in CASES], ids=[case[0] for case in CASES])
    def test_refused(self, endpoint: Endpoint, need: Need, document: dict[str, Any]) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, document)

    @pytest.mark.stricter
    def test_data_nested_otherwise(self, endpoint: Endpoint, need: Need) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, changed(add_subtract(), *DATA, to=[[1, 2], [3, 4], [5, 6]]))

    def test_inputs_that_contradict_each_other(self, endpoint: Endpoint, need: Need) -> None:
        """Two rows here, one row there, where the model wants as many."""
        need(ADD_SUBTRACT)
        row = {"name": "b", "shape": [4, 3], "datatype": "FP32", "data": [1.0] * 12}
        endpoint.refused(ADD_SUBTRACT, {"inputs": [A.in_json(), row]})

    def test_the_line_names_the_input(self, endpoint: Endpoint, need: Need) -> None:
        need(ADD_SUBTRACT)
        assert "c" in endpoint.refused(ADD_SUBTRACT, changed(add_subtract(), *FIRST, "name", to="c"))

    @pytest.mark.parametrize("size", [10_000, 1_000_000])
    def test_the_line_stays_short(self, endpoint: Endpoint, need: Need, size: int) -> None:
        need(ADD_SUBTRACT)
        assert (
            len(endpoint.refused(ADD_SUBTRACT, changed(add_subtract(), *FIRST, "name", to="c" * size))) < 4000
        )


class TestRest:
    """Outputs, ids and parameters that are none."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("outputs", [{"name": "nothing"}]),
            ("outputs", [{}]),
            ("outputs", ["sum"]),
            ("outputs", {"name": "sum"}),
            ("outputs", [{"name": 1}]),
            ("id", 7),
            ("id", ["x"]),
            ("parameters", []),
            ("parameters", "text"),
        ],
    )
    def test_refused(self, endpoint: Endpoint, need: Need, name: str, value: object) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, {**add_subtract(), name: value})

    @pytest.mark.stricter
    def test_an_output_twice(self, endpoint: Endpoint, need: Need) -> None:
        need(ADD_SUBTRACT)
        endpoint.refused(ADD_SUBTRACT, {**add_subtract(), "outputs": [{"name": "sum"}, {"name": "sum"}]})


class TestUnknown:
    """What is not there."""

    @pytest.mark.parametrize(
        ("model", "version"), [("nobody", None), ("nobody", "1"), (SCALE, "99"), ("No_Body", None)]
    )
    def test_model_or_version(self, endpoint: Endpoint, need: Need, model: str, version: str | None) -> None:
        need(SCALE)
        reply = endpoint.infer(model, scale(), version=version)
        assert reply.status == 404
        assert reply.error

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", f"/v2/models/{SCALE}/infer"),
            ("PUT", f"/v2/models/{SCALE}/infer"),
            ("DELETE", f"/v2/models/{SCALE}"),
            ("POST", "/v2"),
            ("POST", "/v2/health/live"),
            ("POST", f"/v2/models/{SCALE}/ready"),
            ("PATCH", f"/v2/models/{SCALE}"),
        ],
    )
    def test_method(self, endpoint: Endpoint, method: str, path: str) -> None:
        content = None if method == "GET" else b"{}"
        reply = endpoint.ask(method, path, content)
        assert reply.status in {400, 404, 405, 501}
        if reply.status == 405:
            assert reply.fields["allow"] == ("POST" if path.endswith("infer") else "GET")
