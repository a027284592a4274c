"""Bytes that were made to hurt: each is a 400, at a price that its size bounds."""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from s3ml.primitives.units import MIB
from s3ml.wire.oip import (
    Limits,
    OIPError,
    decode_infer_request,
    decode_infer_response,
    encode_infer_request,
    parse_header_length,
    parse_path,
)
from s3ml.wire.oip.messages import InferRequest, Tensor

HONEST = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]%b}'
# The array, the content, and what is parsed at a time; a list of Python would be 20 to 40 times the content.
MOST_TIMES = 7
SLACK_BYTES = 2 * MIB
LARGE = 500_000


def entry(
    data: bytes = b"[1]",
    *,
    shape: bytes = b"[1]",
    datatype: str = "FP32",
    name: bytes = b"x",
    more: bytes = b"",
) -> bytes:
    """Return a request with one input."""
    return b'{"inputs":[{"name":"%b","shape":%b,"datatype":"%b","data":%b%b}]}' % (
        name,
        shape,
        datatype.encode(),
        data,
        more,
    )


def binary(shape: list[int], size: Any, blob: bytes, *, datatype: str = "FP32") -> tuple[bytes, int]:
    """Return a request with one input in binary, and the length of its JSON."""
    parameters = {"binary_data_size": size}
    one = {"name": "x", "shape": shape, "datatype": datatype, "parameters": parameters}
    head = json.dumps({"inputs": [one]}).encode()
    return head + blob, len(head)


def refused(content: bytes, header_length: int | None = None) -> str:
    """Return the reason of a 400, which took memory within bounds."""
    tracemalloc.start()
    try:
        with pytest.raises(OIPError) as rejected:
            decode_infer_request(content, header_length)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rejected.value.status == 400
    assert peak_bytes < MOST_TIMES * len(content) + SLACK_BYTES
    reason = str(rejected.value)
    assert len(reason) < 1000
    return reason


def taken(content: bytes, header_length: int | None = None) -> Any:
    """Return the array of the input of a request that is accepted, in memory within bounds."""
    tracemalloc.start()
    try:
        decoded = decode_infer_request(content, header_length)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MOST_TIMES * len(content) + SLACK_BYTES
    return decoded.inputs[0].array


class TestNesting:
    """Depth is refused, and what may be deep costs no more than flat."""

    @pytest.mark.parametrize("place", ["unknown member", "data", "parameters", "shape", "outputs"])
    @pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
    @pytest.mark.parametrize("is_closed", [True, False])
    def test_deep(self, place: str, pair: tuple[bytes, bytes], *, is_closed: bool) -> None:
        value = pair[0] * LARGE + (b"1" + pair[1] * LARGE if is_closed else b"")
        content = {
            "unknown member": HONEST % (b',"z":' + value),
            "data": entry(value),
            "parameters": HONEST % (b',"parameters":' + value),
            "shape": entry(shape=value),
            "outputs": HONEST % (b',"outputs":' + value),
        }[place]
        assert "JSON" in refused(content)

    def test_rows_of_one_number(self) -> None:
        array = taken(entry(b"[" + b"[1]," * LARGE + b"[1]]", shape=b"[%d,1]" % (LARGE + 1)))
        assert (array.shape, array.min(), array.max()) == ((LARGE + 1, 1), 1, 1)

    def test_sixteen_dimensions_of_one(self) -> None:
        row = b"[" * 15 + b"1" + b"]" * 15
        shape = b"[%d%b]" % (50_001, b",1" * 15)
        assert taken(entry(b"[" + (row + b",") * 50_000 + row + b"]", shape=shape)).shape[0] == 50_001

    @pytest.mark.parametrize(
        ("data", "shape"),
        [
            (b"[[1,2],[3]]", b"[2,2]"),
            (b"[[1],[2,3]]", b"[3,1]"),
            (b"[[1],2]", b"[2,1]"),
            (b"[1,[2]]", b"[2,1]"),
            (b"[[],[1]]", b"[2,1]"),
            (b"[[1],[]]", b"[2,1]"),
            (b"[[[1],[2]]]", b"[2,1]"),
            (b"[[1,2]]", b"[2,1]"),
            (b"[[1],[2]]", b"[2,0]"),
            (b"[[]]", b"[2,0]"),
            (b"[[],[]]", b"[0,2]"),
            (b"[[1],[2]]", b"[2]"),
            (b"[[1]]", b"[]"),
            (b"1", b"[]"),
            (b"1", b"[1]"),
            (b'[["a"]]', b"[1,1]"),
            (b"[[null]]", b"[1,1]"),
        ],
    )
    def test_ragged(self, data: bytes, shape: bytes) -> None:
        assert refused(entry(data, shape=shape)).startswith("x: data: ")

    @pytest.mark.parametrize(
        ("data", "shape"),
        [
            (b'[["a","b"],["c"]]', b"[2,2]"),
            (b'[["a"],"b"]', b"[2,1]"),
            (b'["a",["b"]]', b"[2,1]"),
            (b'[[],["a"]]', b"[2,1]"),
            (b'[["a"],["b"]]', b"[2]"),
            (b'[["a"],[1]]', b"[2,1]"),
            (b'"a"', b"[1]"),
            (b'[["],["]]', b"[2,1]"),
        ],
    )
    def test_ragged_text(self, data: bytes, shape: bytes) -> None:
        assert refused(entry(data, shape=shape, datatype="BYTES")).startswith("x: data: ")

    def test_text_that_looks_like_nesting(self) -> None:
        array = taken(entry(b'[["[1],[", "\\\\"], ["a\\",\\"b",",,"]]', shape=b"[2,2]", datatype="BYTES"))
        assert array.tolist() == [[b"[1],[", b"\\"], [b'a","b', b",,"]]

    def test_empty_rows(self) -> None:
        data = b"[" + b"[]," * LARGE + b"[]]"
        assert taken(entry(data, shape=b"[%d,0]" % (LARGE + 1))).shape == (LARGE + 1, 0)
        assert refused(entry(data, shape=b"[%d,0]" % LARGE)).startswith("x: data: ")
        assert taken(entry(b"[]", shape=b"[0,268435456]")).shape == (0, 268435456)


class TestKeys:
    """A key that stands twice is refused, wherever it stands and however it is written."""

    @pytest.mark.parametrize(
        "content",
        [
            HONEST % b',"inputs":[]',
            HONEST % b',"id":"a","id":"a"',
            HONEST % b',"i\\u0064":"a","id":"b"',
            HONEST % b',"z":{"y":[{"a":1,"\\u0061":2}]}',
            HONEST % b',"parameters":{"a":1,"a":1}',
            HONEST % b',"outputs":[{"name":"y","name":"y"}]',
            HONEST % b',"":1,"":2',
            entry(more=b',"shape":[1]'),
            entry(more=b',"datatype":"FP32"'),
            entry(more=b',"parameters":{"a":{},"a":{}}'),
            entry(more=b',"data":[1]'),
            entry(b"[" + b"1," * 2000 + b"1]", shape=b"[2001]", more=b',"data":[1]'),
        ],
    )
    def test_twice(self, content: bytes) -> None:
        with pytest.raises(OIPError, match=r"twice|Expected"):
            decode_infer_request(content, None)

    def test_a_million(self) -> None:
        keys = b",".join(b'"%06d":1' % number for number in range(LARGE))
        assert "beside data" in refused(HONEST % (b"," + keys))
        assert "beside data" in refused(HONEST % (b',"parameters":{' + keys + b"}"))

    def test_other_spellings_are_other_members(self) -> None:
        assert taken(HONEST % b',"Inputs":[],"INPUTS":[],"inputs ":[]').tolist() == [1]


class TestCounts:
    """Many of anything is refused before it is many objects."""

    def test_a_shape_of_a_million_entries(self) -> None:
        for number in (b"1,", b"0,"):
            assert "beside data" in refused(entry(shape=b"[" + number * 1_000_000 + b"1]"))

    def test_a_hundred_thousand_tensors(self) -> None:
        one = b'{"name":"%d","shape":[1],"datatype":"FP32","data":[1]}'
        many = b",".join(one % number for number in range(100_000))
        assert "beside data" in refused(b'{"inputs":[' + many + b"]}")

    def test_tensors_of_nothing(self) -> None:
        many = b'{"name":0,"shape":0,"datatype":0},' * 100_000
        assert "beside data" in refused(b'{"inputs":[' + many[:-1] + b"]}")

    def test_a_hundred_thousand_outputs(self) -> None:
        many = b",".join(b'{"name":"%d"}' % number for number in range(100_000))
        assert "beside data" in refused(HONEST % (b',"outputs":[' + many + b"]"))

    @pytest.mark.parametrize("value", [b"[],", b"{},", b"1,", b"1.5,", b'"",', b"null,", b" "])
    def test_a_million_unknown_values(self, value: bytes) -> None:
        assert "beside data" in refused(HONEST % (b',"z":[' + value * 1_100_000 + b"1]"))

    def test_more_elements_than_declared(self) -> None:
        assert "got" in refused(entry(b"[" + b"1," * 1_000_000 + b"1]"))
        assert "got" in refused(entry(b"[" + b'"",' * 1_000_000 + b'""]', datatype="BYTES"))

    def test_more_text_than_is_taken(self) -> None:
        limits = Limits(text_count=2)
        three = entry(b'["a","b","c"]', shape=b"[3]", datatype="BYTES")
        with pytest.raises(OIPError, match="at most 2 elements of BYTES"):
            decode_infer_request(three, None, limits=limits)
        content, length = binary([3], 12, bytes(12), datatype="BYTES")
        with pytest.raises(OIPError, match="at most 2 elements of BYTES"):
            decode_infer_request(content, length, limits=limits)

    def test_many_numbers(self) -> None:
        array = taken(entry(b"[" + b"1, " * 200_000 + b"2\n]", shape=b"[200001]", datatype="FP64"))
        assert (array.sum(), array[-1]) == (200_002, 2)

    def test_numbers_across_pieces_keep_their_order(self) -> None:
        numbers = np.arange(100_000, dtype=np.int64).reshape(200, 500) - 50_000
        for data in (numbers.tolist(), numbers.ravel().tolist()):
            text = json.dumps(data).encode()
            array = taken(entry(text, shape=b"[200,500]", datatype="INT64"))
            assert np.array_equal(array, numbers)

    @pytest.mark.parametrize("wrong", [b"[1]", b'"1"', b"null", b"true", b"1.5", b"{}"])
    def test_one_wrong_value_among_many(self, wrong: bytes) -> None:
        many = b"[" + b"1," * 100_000 + wrong + b"]"
        assert refused(entry(many, shape=b"[100001]", datatype="INT64")).startswith("x: data: ")


class TestShapes:
    """What is declared costs nothing."""

    @pytest.mark.parametrize(
        "shape",
        [
            b"[-1]",
            b"[1,-1]",
            b"[9223372036854775807,2]",
            b"[9223372036854775808]",
            b"[18446744073709551616]",
            b"[2147483647,2147483647,4]",
            b"[4294967296,4294967296]",
            b"[268435457]",
            b"[0,2147483647,2147483647]",
            b"[1e2]",
            b"[1.0]",
            b"[true]",
            b'["1"]',
            b"[null]",
            b"[[1]]",
            b"null",
            b"1",
            b'"1"',
            b"{}",
            b"[" + b"9" * 100_000 + b"]",
            b"[1" + b",1" * 16 + b"]",
        ],
    )
    def test_huge_and_odd(self, shape: bytes) -> None:
        refused(entry(shape=shape))

    def test_the_largest_shape_with_hardly_any_data(self) -> None:
        assert "got 1" in refused(entry(shape=b"[268435456]"))
        content, length = binary([268435456], 4, bytes(4))
        assert "expected 1073741824 bytes" in refused(content, length)

    def test_zero_is_a_dimension(self) -> None:
        assert taken(entry(b"[]", shape=b"[0]")).shape == (0,)
        assert "expected 0 elements" in refused(entry(b"[1]", shape=b"[0]"))


class TestNumbers:
    """A number is what JSON says it is, and what the datatype can hold."""

    @pytest.mark.parametrize(
        "number", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"-inf", b"1e", b"-"]
    )
    @pytest.mark.parametrize("place", ["data", "unknown member", "parameter", "shape", "binary_data_size"])
    def test_what_json_has_not(self, number: bytes, place: str) -> None:
        content = {
            "data": entry(b"[" + number + b"]"),
            "unknown member": HONEST % (b',"z":' + number),
            "parameter": HONEST % (b',"parameters":{"a":' + number + b"}"),
            "shape": entry(shape=b"[" + number + b"]"),
            "binary_data_size": entry(more=b',"parameters":{"binary_data_size":' + number + b"}"),
        }[place]
        assert "JSON" in refused(content)

    @pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
    def test_nan_and_infinity_travel_in_binary(self, datatype: str) -> None:
        array = np.array([np.nan, np.inf, -np.inf], {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype])
        request = InferRequest(model="m", inputs=(Tensor(name="x", datatype=datatype, array=array),))
        content, fields = encode_infer_request(request)
        length = parse_header_length(dict(fields)["inference-header-content-length"])
        assert taken(content, length).tobytes() == array.tobytes()

    @pytest.mark.parametrize(
        ("datatype", "number"),
        [
            ("FP16", b"65520"),
            ("FP32", b"1e39"),
            ("FP32", b"-1e39"),
            ("FP64", b"1e309"),
            ("FP64", b"1e999999999999"),
            ("FP64", b"9" * 400),
            ("INT8", b"128"),
            ("INT8", b"-129"),
            ("UINT8", b"-1"),
            ("INT64", b"9223372036854775808"),
            ("INT64", b"-9223372036854775809"),
            ("UINT64", b"18446744073709551616"),
            ("UINT64", b"-1"),
            ("INT64", b"9" * 100_000),
            ("INT64", b"1e2"),
        ],
    )
    def test_out_of_range(self, datatype: str, number: bytes) -> None:
        refused(entry(b"[" + number + b"]", datatype=datatype))

    @pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT8", "INT32", "UINT64"])
    @pytest.mark.parametrize(
        "number", [b"1.0", b"1e0", b'"1"', b"null", b"-0.0", b"01", b"+1", b"1.", b"0x1", b"1_0"]
    )
    def test_not_canonical(self, datatype: str, number: bytes) -> None:
        refused(entry(b"[" + number + b"]", datatype=datatype))

    def test_no_boolean_for_a_number_nor_a_number_for_a_boolean(self) -> None:
        for datatype in ("INT8", "UINT64", "FP32"):
            refused(entry(b"[true]", datatype=datatype))
        for number in (b"0", b"1"):
            refused(entry(b"[" + number + b"]", datatype="BOOL"))
        refused(entry(b"[tru]", datatype="BOOL"))

    def test_long_fractions_and_exponents_are_numbers(self) -> None:
        assert taken(entry(b"[0." + b"1" * LARGE + b"]")).tolist() == [pytest.approx(1 / 9)]
        assert taken(entry(b"[1e-" + b"9" * LARGE + b"]")).tolist() == [0]
        assert refused(entry(b"[1e" + b"9" * LARGE + b"]"))

    def test_zero_keeps_its_sign(self) -> None:
        array = taken(entry(b"[-0.0]"))
        assert struct.pack("<f", -0.0) == array.tobytes()


class TestText:
    """UTF-8, once, and nothing around the value."""

    @pytest.mark.parametrize(
        "text", [b"\\ud800", b"\\udc00", b"\\ud800x", b"\xed\xa0\x80", b"\xff", b"\xc0\x80"]
    )
    @pytest.mark.parametrize("place", ["name", "id", "unknown member", "key", "parameter", "element"])
    def test_surrogates_and_what_is_not_utf8(self, text: bytes, place: str) -> None:
        content = {
            "name": entry(name=text),
            "id": HONEST % (b',"id":"' + text + b'"'),
            "unknown member": HONEST % (b',"z":"' + text + b'"'),
            "key": HONEST % (b',"' + text + b'":1'),
            "parameter": HONEST % (b',"parameters":{"a":"' + text + b'"}'),
            "element": entry(b'["' + text + b'"]', datatype="BYTES"),
        }[place]
        assert "JSON" in refused(content) or "data" in refused(content)

    def test_what_is_not_utf8_in_large_data(self) -> None:
        data = b'["' + b"a" * 5000 + b'\xed\xa0\x80"]'
        assert refused(entry(data, datatype="BYTES"))

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
    def test_other_encodings(self, encoding: str) -> None:
        assert "JSON" in refused(entry().decode().encode(encoding))

    @pytest.mark.parametrize("rest", [b"x", b"{}", b"\0", b",", b"]", b"\xef\xbb\xbf", b"//", b"\x0b"])
    def test_trailing_garbage(self, rest: bytes) -> None:
        assert "JSON" in refused(entry() + rest)

    @pytest.mark.parametrize("text", [b"\n", b"\0", b"\x1f", b"\\x41", b"\\u00", b"\\"])
    def test_what_strings_may_not_hold(self, text: bytes) -> None:
        assert "JSON" in refused(HONEST % (b',"id":"' + text + b'"'))


class TestHeaderLength:
    """The length of the JSON is a number within the content, and what follows is all used."""

    @pytest.mark.parametrize("length", [2**31, 2**63, 10**9, 100])
    def test_beyond_the_content(self, length: int) -> None:
        assert "expected 0 to" in refused(entry(), length)

    @pytest.mark.parametrize("change", [-1, 1])
    def test_off_by_one(self, change: int) -> None:
        content, length = binary([1], 4, bytes(4))
        refused(content, length + change)

    @pytest.mark.parametrize(
        "value", ["", "-1", "+1", "0x10", "1e1", "1,1", "1 ", "00", "9" * 4000, "\u0661"]
    )
    def test_no_number(self, value: str) -> None:
        with pytest.raises(OIPError, match="decimal"):
            parse_header_length(value)

    def test_a_response_of_no_json(self) -> None:
        with pytest.raises(OIPError, match="JSON"):
            decode_infer_response(b"{}", 0)


class TestBinary:
    """Lengths that lie."""

    @pytest.mark.parametrize(
        ("count", "blob"),
        [
            (1, b"\xff\xff\xff\xff"),
            (1, b"\xff\xff\xff\x7fabcd"),
            (1, b"\x05\x00\x00\x00abcd"),
            (1, b"\x03\x00\x00\x00abcd"),
            (2, b"\x04\x00\x00\x00abcd"),
            (2, b"\x00\x00\x00\x00\x01\x00\x00"),
            (0, b"\x00"),
            (1, b""),
            (1_000_000, b"\x00\x00\x00\x00"),
        ],
    )
    def test_lengths_of_bytes(self, count: int, blob: bytes) -> None:
        content, length = binary([count], len(blob), blob, datatype="BYTES")
        assert refused(content, length)

    @pytest.mark.parametrize("size", [-1, 2**31, 2**63, 2**64, 4.0, True, "4", 1e300])
    def test_sizes_that_lie(self, size: Any) -> None:
        content, length = binary([1], size, bytes(4))
        assert refused(content, length)

    def test_bytes_that_nobody_claims(self) -> None:
        content, length = binary([1], 4, bytes(4 + MIB))
        assert "expected 4 bytes" in refused(content, length)

    def test_every_byte_of_a_boolean_counts(self) -> None:
        content, length = binary([2], 2, b"\x01\x80", datatype="BOOL")
        assert "0 or 1" in refused(content, length)

    def test_many_elements_of_bytes(self) -> None:
        count = 50_000
        content, length = binary([count], 5 * count, b"\x01\x00\x00\x00a" * count, datatype="BYTES")
        assert taken(content, length).tolist()[-1] == b"a"


class TestPaths:
    """A path is one of the few, byte by byte."""

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "//v2",
            "/v2//",
            "/v2/.",
            "/v2/../v2",
            "/v2/models/",
            "/v2/models/m/",
            "/v2/models/%6d",
            "/v2/models/m\n",
            "/v2/models/m\0",
            "/v2/models/M",
            "/v2/models/m/versions/0",
            "/v2/models/m/versions/01",
            "/v2/models/m/versions/1234567890",
            "/v2/models/m/versions/1/../2",
            "/v2/models/m?x",
            "/v2/models/m#x",
            "/v2/models/" + "m" * 64,
            "/v2/models/" + "m" * 1_000_000,
            "/v2/models/m" + "/versions/1" * 100_000,
            "/v2/models/\u043c",
            "/v2/models/m/infer/",
            "/V2",
        ],
    )
    def test_no_other(self, path: str) -> None:
        with pytest.raises(OIPError) as rejected:
            parse_path("GET", path)
        assert rejected.value.status == 404
        assert len(str(rejected.value)) < 300

    @pytest.mark.parametrize("method", ["", "get", "GET ", "HEAD", "POST", "G" * 100_000])
    def test_no_other_method(self, method: str) -> None:
        with pytest.raises(OIPError) as rejected:
            parse_path(method, "/v2")
        assert rejected.value.status == 405
        assert len(str(rejected.value)) < 300
