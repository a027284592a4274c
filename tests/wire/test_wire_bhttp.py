"""Binary HTTP: what encodes decodes, and what is malformed says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.wire import bhttp
from s3ml.wire.bhttp import BinaryHTTPError, Informational, Limits, Request, Response
from s3ml.wire.bhttp.varint import decode_varint, encode_varint

NAMES = st.from_regex(rb"[a-z][a-z0-9-]{0,12}", fullmatch=True)
VALUES = st.from_regex(rb"([!-~]([ -~]{0,20}[!-~])?)?", fullmatch=True)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(tuple)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from([b"GET", b"POST"]),
    authority=st.sampled_from([b"", b"example.com"]),
    path=st.from_regex(rb"/[!-~]{0,100}", fullmatch=True),
    fields=FIELDS,
    content=st.binary(max_size=300),
    trailers=FIELDS,
)
RESPONSES = st.builds(
    Response,
    status=st.integers(200, 599),
    fields=FIELDS,
    content=st.binary(max_size=300),
    trailers=FIELDS,
    informational=st.lists(
        st.builds(Informational, status=st.integers(100, 199), fields=FIELDS), max_size=2
    ).map(tuple),
)
REQUEST = Request(
    method=b"POST",
    path=b"/",
    fields=((b"a", b"1"), (b"b", b"2")),
    content=b"content",
    trailers=((b"t", b"3"),),
)
#: Framing indicator and control data of a GET of ``/`` under https, known length.
HEAD = b"\x00\x03GET\x05https\x00\x01/"
INDETERMINATE_HEAD = b"\x02" + HEAD[1:]


class TestRoundTrip:
    @given(request=REQUESTS, is_indeterminate=st.booleans(), padding=st.integers(0, 40))
    def test_requests(self, request: Request, is_indeterminate: bool, padding: int) -> None:
        encoded = bhttp.encode_request(
            request, is_indeterminate=is_indeterminate, padded_length=lambda size: size + padding
        )

        assert bhttp.decode_request(encoded) == request

    @given(response=RESPONSES, is_indeterminate=st.booleans(), padding=st.integers(0, 40))
    def test_responses(self, response: Response, is_indeterminate: bool, padding: int) -> None:
        encoded = bhttp.encode_response(
            response, is_indeterminate=is_indeterminate, padded_length=lambda size: size + padding
        )

        assert bhttp.decode_response(encoded) == response

    def test_content_is_a_view_of_the_message(self) -> None:
        decoded = bhttp.decode_request(bhttp.encode_request(REQUEST))

        assert isinstance(decoded.content, memoryview)

    def test_chunks_are_joined(self) -> None:
        decoded = bhttp.decode_request(INDETERMINATE_HEAD + b"\x00\x03abc\x02de\x00\x00")

        assert decoded.content == b"abcde"

    def test_neither_content_nor_fields_show(self) -> None:
        assert "content" not in repr(REQUEST)
        assert "fields" not in repr(REQUEST)


class TestArbitraryBytes:
    """Any bytes are accepted, or rejected with the one error."""

    @given(data=st.binary(max_size=200), framing=st.sampled_from([b"\x00", b"\x01", b"\x02", b"\x03"]))
    def test_random(self, data: bytes, framing: bytes) -> None:
        for decode in (bhttp.decode_request, bhttp.decode_response):
            try:
                decode(framing + data)
            except BinaryHTTPError:
                continue

    @given(
        request=REQUESTS,
        is_indeterminate=st.booleans(),
        position=st.integers(0, 400),
        value=st.integers(0, 255),
    )
    def test_one_changed_byte(
        self, request: Request, is_indeterminate: bool, position: int, value: int
    ) -> None:
        encoded = bytearray(bhttp.encode_request(request, is_indeterminate=is_indeterminate))
        encoded[position % len(encoded)] = value
        try:
            bhttp.decode_request(bytes(encoded))
        except BinaryHTTPError:
            return


class TestVarint:
    @pytest.mark.parametrize("value", [0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1])
    def test_boundaries(self, value: int) -> None:
        encoded = encode_varint(value)

        assert decode_varint(encoded, 0) == (value, len(encoded))

    def test_too_large_rejects(self) -> None:
        with pytest.raises(BinaryHTTPError, match="2\\*\\*62"):
            encode_varint(1 << 62)

    def test_more_bytes_than_necessary_are_accepted(self) -> None:
        assert decode_varint(b"\xc0\x00\x00\x00\x00\x00\x00\x05", 0) == (5, 8)

    @pytest.mark.parametrize("data", [b"", b"\x40", b"\x80\x00\x00"])
    def test_truncated_rejects(self, data: bytes) -> None:
        with pytest.raises(BinaryHTTPError, match="truncated"):
            decode_varint(data, 0)


class TestMalformed:
    """Each rule of the format rejects what breaks it."""

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            pytest.param(b"", "truncated", id="nothing"),
            pytest.param(b"\x01\x40\xc8", "expected a request", id="a response"),
            pytest.param(b"\x04", "expected a request", id="unknown framing"),
            pytest.param(b"\x00\x03GE", "truncated", id="truncated control data"),
            pytest.param(HEAD + b"\x05\x01", "truncated", id="truncated header"),
            pytest.param(HEAD + b"\x00\x05abc", "truncated", id="truncated content"),
            pytest.param(HEAD + b"\x00\x00\x04\x01t", "truncated", id="truncated trailers"),
            pytest.param(HEAD + b"\x03\x00\x01x\x00", "at least one byte", id="empty name"),
            pytest.param(HEAD + b"\x03\x05abcde", "runs over", id="name beyond its section"),
            pytest.param(HEAD + b"\x03\x01a\x05bcdef", "runs over", id="value beyond its section"),
            pytest.param(HEAD + b"\x03\x01a\x05b", "truncated", id="value beyond the message"),
            pytest.param(HEAD + b"\x00\x00\x00\x00\x01", "padding", id="padding with a one"),
            pytest.param(INDETERMINATE_HEAD + b"\x01a\x01", "truncated", id="truncated field"),
            pytest.param(INDETERMINATE_HEAD + b"\x05a", "runs over", id="truncated name"),
            pytest.param(INDETERMINATE_HEAD + b"\x00\x03ab", "truncated", id="truncated chunk"),
            pytest.param(INDETERMINATE_HEAD + b"\x00\x03abc", "truncated", id="no end of content"),
            pytest.param(b"\x00\x00\x05https\x00\x01/", "method", id="no method"),
            pytest.param(b"\x00\x04G ET\x05https\x00\x01/", "method", id="method with a space"),
            pytest.param(b"\x00\x03GET\x00\x00\x01/", "scheme", id="no scheme"),
            pytest.param(b"\x00\x03GET\x05https\x00\x00", "path", id="no path"),
            pytest.param(b"\x00\x03GET\x05https\x00\x03/ a", "path", id="path with a space"),
            pytest.param(b"\x00\x03GET\x05https\x01\n\x01/", "path", id="authority with a line feed"),
        ],
    )
    def test_requests(self, data: bytes, reason: str) -> None:
        with pytest.raises(BinaryHTTPError, match=reason):
            bhttp.decode_request(data)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            pytest.param(b"\x00", "expected a response", id="a request"),
            pytest.param(b"\x01\x40\x63", "final status", id="status 99"),
            pytest.param(b"\x01\x42\x58", "final status", id="status 600"),
            pytest.param(b"\x01\x40\x64\x00", "truncated", id="only an interim response"),
        ],
    )
    def test_responses(self, data: bytes, reason: str) -> None:
        with pytest.raises(BinaryHTTPError, match=reason):
            bhttp.decode_response(data)

    @pytest.mark.parametrize(
        "name", [b"Upper", b"white space", b"", b":", b":method", b":status", b"a:b", b"\xc3\xa9"]
    )
    def test_names(self, name: bytes) -> None:
        with pytest.raises(BinaryHTTPError):
            Request(method=b"GET", path=b"/", fields=((name, b"x"),))

    @pytest.mark.parametrize("value", [b"\x00", b"a\rb", b"a\nb", b" a", b"a ", b"\ta", b"a\t"])
    def test_values(self, value: bytes) -> None:
        with pytest.raises(BinaryHTTPError, match="values"):
            Request(method=b"GET", path=b"/", fields=((b"a", value),))

    def test_pseudo_fields_come_first(self) -> None:
        Request(method=b"GET", path=b"/", fields=((b":protocol", b"x"), (b"a", b"x")))

        with pytest.raises(BinaryHTTPError, match="pseudo"):
            Request(method=b"GET", path=b"/", fields=((b"a", b"x"), (b":protocol", b"x")))

    def test_trailers_have_no_pseudo_fields(self) -> None:
        with pytest.raises(BinaryHTTPError, match="pseudo"):
            Request(method=b"GET", path=b"/", trailers=((b":protocol", b"x"),))

    @pytest.mark.parametrize("status", [99, 200])
    def test_interim_statuses(self, status: int) -> None:
        with pytest.raises(BinaryHTTPError, match="100 to 199"):
            Informational(status=status)


class TestLimits:
    """Each limit rejects what exceeds it, and nothing that does not."""

    @pytest.mark.parametrize("is_indeterminate", [False, True])
    @pytest.mark.parametrize(
        "limits",
        [
            Limits(message_bytes=20),
            Limits(control_bytes=3),
            Limits(section_bytes=7),
            Limits(field_count=1),
        ],
        ids=repr,
    )
    def test_of_requests(self, limits: Limits, is_indeterminate: bool) -> None:
        encoded = bhttp.encode_request(REQUEST, is_indeterminate=is_indeterminate)

        with pytest.raises(BinaryHTTPError, match="at most"):
            bhttp.decode_request(encoded, limits=limits)

    def test_what_reaches_them_is_accepted(self) -> None:
        encoded = bhttp.encode_request(REQUEST)
        limits = Limits(
            message_bytes=len(encoded),
            control_bytes=5,
            section_bytes=8,
            field_count=2,
            chunk_count=1,
            informational_count=0,
        )

        assert bhttp.decode_request(encoded, limits=limits) == REQUEST
        indeterminate = bhttp.encode_request(REQUEST, is_indeterminate=True)
        larger = Limits(section_bytes=8, field_count=2, chunk_count=1)
        assert bhttp.decode_request(indeterminate, limits=larger) == REQUEST

    def test_of_chunks(self) -> None:
        with pytest.raises(BinaryHTTPError, match="chunks"):
            bhttp.decode_request(INDETERMINATE_HEAD + b"\x00\x01a\x01b\x00\x00", limits=Limits(chunk_count=1))

    def test_of_interim_responses(self) -> None:
        response = Response(status=200, informational=(Informational(status=103),) * 2)

        with pytest.raises(BinaryHTTPError, match="interim"):
            bhttp.decode_response(bhttp.encode_response(response), limits=Limits(informational_count=1))
