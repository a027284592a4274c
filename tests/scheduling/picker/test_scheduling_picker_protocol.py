"""The messages have Envoy's numbers, and the generated modules are those of the source."""

import subprocess
import sys
from pathlib import Path

import pytest

from s3ml.scheduling.picker import protocol
from s3ml.scheduling.picker.protocol import ext_proc_pb2

FOLDER = Path(protocol.__file__).parent
SCRIPT = Path(__file__).parents[3] / "scripts" / "protobuf"

# Field numbers as Envoy publishes them (envoy.service.ext_proc.v3, envoy.config.core.v3, google.protobuf).
PUBLISHED = {
    "ProcessingRequest": {
        "request_headers": 2,
        "response_headers": 3,
        "metadata_context": 8,
        "observability_mode": 10,
    },
    "ProcessingResponse": {
        "request_headers": 1,
        "response_headers": 2,
        "immediate_response": 7,
        "dynamic_metadata": 8,
    },
    "HttpHeaders": {"headers": 1, "end_of_stream": 3},
    "HeaderMap": {"headers": 1},
    "HeaderValue": {"key": 1, "value": 2, "raw_value": 3},
    "Metadata": {"filter_metadata": 1},
    "HeadersResponse": {"response": 1},
    "CommonResponse": {"status": 1, "header_mutation": 2},
    "HeaderMutation": {"set_headers": 1, "remove_headers": 2},
    "HeaderValueOption": {"header": 1, "append_action": 3},
    "ImmediateResponse": {"status": 1, "headers": 2, "body": 3, "details": 5},
    "HttpStatus": {"code": 1},
    "Struct": {"fields": 1},
    "Value": {
        "null_value": 1,
        "number_value": 2,
        "string_value": 3,
        "bool_value": 4,
        "struct_value": 5,
        "list_value": 6,
    },
    "ListValue": {"values": 1},
}


class TestNumbers:
    def test_every_message_is_checked(self) -> None:
        assert set(ext_proc_pb2.DESCRIPTOR.message_types_by_name) == set(PUBLISHED)

    @pytest.mark.parametrize("message", PUBLISHED)
    def test_they_are_envoys(self, message: str) -> None:
        found = ext_proc_pb2.DESCRIPTOR.message_types_by_name[message]
        assert {field.name: field.number for field in found.fields} == PUBLISHED[message]

    def test_metadata_is_googles_on_the_wire(self) -> None:
        from google.protobuf import struct_pb2

        theirs = struct_pb2.Struct()
        theirs.update({"a": "x", "b": [1.0, {"c": True}], "d": None})
        ours = ext_proc_pb2.Struct.FromString(theirs.SerializeToString())
        assert struct_pb2.Struct.FromString(ours.SerializeToString()) == theirs


class TestGenerated:
    def test_the_modules_are_those_of_the_source(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, SCRIPT, tmp_path], check=True)
        for name in ("ext_proc_pb2.py", "ext_proc_pb2.pyi"):
            assert (tmp_path / name).read_text() == (FOLDER / name).read_text()
