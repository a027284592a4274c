"""What anybody may have written becomes one short line, or nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.client.replies import LINE_LIMIT_CHARS, error_line, retry_after_s
from s3ml.client.steps import HTTPReply


class TestLines:
    """A terminal is never written to by a peer."""

    @given(st.binary(max_size=200) | st.text().map(lambda text: json.dumps({"error": text}).encode()))
    def test_a_line_is_printable_and_short(self, content: bytes) -> None:
        line = error_line(content)
        assert line.isprintable()
        assert 0 < len(line) <= LINE_LIMIT_CHARS

    def test_it_is_what_was_said(self) -> None:
        assert error_line(b'{"error":"no such model","more":1}') == "no such model"

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b'{"error":1}', b'{"error":""}', b"[" * 100_000, b"\xff"]
    )
    def test_nothing_said(self, content: bytes) -> None:
        assert error_line(content) == "no reason given"


class TestRetryAfter:
    """Seconds, and no more than an hour of them."""

    @pytest.mark.parametrize(("value", "expected"), [("0", 0.0), (" 7 ", 7.0), ("86400", 3600.0), ("", None)])
    def test_value(self, value: str, expected: float | None) -> None:
        assert retry_after_s({"retry-after": value}) == expected

    @given(st.text(max_size=30))
    def test_anything_is_read_or_ignored(self, value: str) -> None:
        seconds = retry_after_s({"retry-after": value})
        assert seconds is None or 0 <= seconds <= 3600


class TestMediaType:
    """Compared without parameters and case."""

    @pytest.mark.parametrize("value", ["message/ohttp-res", "Message/OHTTP-Res; a=b", " message/ohttp-res "])
    def test_alike(self, value: str) -> None:
        assert HTTPReply(status=200, headers={"content-type": value}).media_type == "message/ohttp-res"
