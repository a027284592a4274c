"""What HTTP leaves open and clients do differently: framing, connections, content types, fields."""

import http.client
import json
from collections.abc import Callable

import pytest

from conformance.oip.endpoint import DEADLINE_S, HEADER_LENGTH, Endpoint, infer_path, read_reply
from conformance.oip.names import ADD_SUBTRACT
from conformance.oip.requests import A, B, add_subtract
from conformance.oip.tensors import outputs, same

Need = Callable[[str], str]

CONTENT = json.dumps(add_subtract()).encode()


class TestContentType:
    """JSON is JSON, whatever it is called."""

    @pytest.mark.parametrize(
        "media_type",
        [
            None,
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/x-www-form-urlencoded",
            "application/octet-stream",
            "text/plain",
        ],
    )
    def test_without_the_binary_header(self, endpoint: Endpoint, need: Need, media_type: str | None) -> None:
        """`curl -d` says that it is a form."""
        fields = {} if media_type is None else {"Content-Type": media_type}
        reply = endpoint.infer(need(ADD_SUBTRACT), CONTENT, fields=fields)
        assert same(outputs(reply)["sum"].array, A.array + B.array)

    @pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "application/octet-stream"])
    def test_accept_does_not_matter(self, endpoint: Endpoint, need: Need, accept: str) -> None:
        fields = {"Content-Type": "application/json", "Accept": accept, "Accept-Encoding": "gzip, br"}
        reply = endpoint.infer(need(ADD_SUBTRACT), CONTENT, fields=fields)
        assert reply.status == 200

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "nonsense"])
    def test_compressed_content(self, endpoint: Endpoint, need: Need, encoding: str) -> None:
        """Read, or refused: what claims to be compressed is not taken for JSON that is broken inside."""
        fields = {"Content-Type": "application/json", "Content-Encoding": encoding}
        reply = endpoint.infer(need(ADD_SUBTRACT), b"\x1f\x8b not compressed", fields=fields)
        assert 400 <= reply.status < 500


class TestConnections:
    """Several requests on one connection, refusals between them."""

    def test_kept_alive(self, endpoint: Endpoint, need: Need) -> None:
        need(ADD_SUBTRACT)
        connection = http.client.HTTPConnection(endpoint.authority, timeout=DEADLINE_S)
        try:
            for content, status in ((CONTENT, 200), (b"{", 400), (CONTENT, 200)):
                connection.request("POST", infer_path(ADD_SUBTRACT), content)
                reply = read_reply(connection)
                assert reply.status == status or (endpoint.is_lenient and status == 400 <= reply.status < 500)
        finally:
            connection.close()

    def test_in_pieces(self, endpoint: Endpoint, need: Need) -> None:
        """Chunked, as clients send what they do not know the length of."""
        need(ADD_SUBTRACT)
        connection = http.client.HTTPConnection(endpoint.authority, timeout=DEADLINE_S)
        try:
            pieces = iter((CONTENT[:10], CONTENT[10:100], CONTENT[100:]))
            connection.request("POST", infer_path(ADD_SUBTRACT), pieces, encode_chunked=True)
            assert same(outputs(read_reply(connection))["sum"].array, A.array + B.array)
        finally:
            connection.close()

    def test_in_pieces_with_binary_data(self, endpoint: Endpoint, need: Need) -> None:
        need(ADD_SUBTRACT)
        document = json.dumps({"inputs": [A.in_binary(), B.in_binary()]}).encode()
        pieces = iter((document + A.raw[:5], A.raw[5:], B.raw))
        connection = http.client.HTTPConnection(endpoint.authority, timeout=DEADLINE_S)
        try:
            fields = {HEADER_LENGTH: str(len(document))}
            connection.request("POST", infer_path(ADD_SUBTRACT), pieces, fields, encode_chunked=True)
            assert same(outputs(read_reply(connection))["sum"].array, A.array + B.array)
        finally:
            connection.close()

    def test_an_answer_states_its_length(self, endpoint: Endpoint, need: Need) -> None:
        reply = endpoint.infer(need(ADD_SUBTRACT), CONTENT)
        assert int(reply.fields["content-length"]) == len(reply.content)
        assert "content-encoding" not in reply.fields


class TestFields:
    """Fields of clients and of those between."""

    def test_unknown_fields(self, endpoint: Endpoint, need: Need) -> None:
        fields = {
            "Content-Type": "application/json",
            "User-Agent": "somebody/1.0",
            "X-Request-Id": "7",
            "Triton-Request-Id": "7",
            "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "Seldon-Puid": "7",
        }
        assert endpoint.infer(need(ADD_SUBTRACT), CONTENT, fields=fields).status == 200

    def test_the_name_of_a_field_has_no_case(self, endpoint: Endpoint, need: Need) -> None:
        document = {"inputs": [A.in_binary(), B.in_binary()]}
        length = str(len(json.dumps(document)))
        for name in (HEADER_LENGTH.lower(), HEADER_LENGTH.upper()):
            fields = {name: length}
            reply = endpoint.infer(need(ADD_SUBTRACT), document, A.raw + B.raw, fields=fields)
            assert same(outputs(reply)["sum"].array, A.array + B.array)
