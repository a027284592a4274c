"""The protocol in messages, against bytes that a gateway sends and bytes that nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.scheduling.picker.messages import (
    DESTINATION,
    MESSAGE_LIMIT_BYTES,
    NAMESPACE,
    SERVED,
    SUBSET,
    SUBSET_NAMESPACE,
    Answered,
    Question,
    QuestionMalformedError,
    destination,
    none_ready,
    noted,
    parse,
)
from s3ml.scheduling.picker.protocol.ext_proc_pb2 import (
    HeaderMap,
    HeaderValue,
    HttpHeaders,
    ListValue,
    Metadata,
    ProcessingRequest,
    ProcessingResponse,
    Struct,
    Value,
)


def headers(**values: str) -> HttpHeaders:
    found = [HeaderValue(key=f":{name}", raw_value=value.encode()) for name, value in values.items()]
    return HttpHeaders(headers=HeaderMap(headers=found))


def metadata(namespace: str, key: str, value: Value) -> Metadata:
    return Metadata(filter_metadata={namespace: Struct(fields={key: value})})


def texts(*values: str) -> Value:
    return Value(list_value=ListValue(values=[Value(string_value=value) for value in values]))


class TestQuestions:
    def test_a_request_without_a_hint_may_go_anywhere(self) -> None:
        message = ProcessingRequest(request_headers=headers(path="/services/t/ohttp"))
        assert parse(message.SerializeToString()) == Question(path="/services/t/ohttp", among=None)

    def test_a_plain_value_is_read_where_there_is_no_raw_one(self) -> None:
        plain = HttpHeaders(headers=HeaderMap(headers=[HeaderValue(key=":path", value="/x")]))
        found = parse(ProcessingRequest(request_headers=plain).SerializeToString())
        assert found == Question(path="/x", among=None)

    @pytest.mark.parametrize(
        ("value", "among"),
        [
            (texts("1.1.1.1:1", "1.1.1.2:2"), {"1.1.1.1:1", "1.1.1.2:2"}),
            (texts(), set()),
            (Value(string_value="1.1.1.1:1, 1.1.1.2:2"), {"1.1.1.1:1", "1.1.1.2:2"}),
            (Value(string_value=""), set()),
            (Value(number_value=1), set()),
        ],
    )
    def test_a_hint_is_heeded(self, value: Value, among: set[str]) -> None:
        """One that is empty, or of another kind, leaves nothing to choose."""
        message = ProcessingRequest(
            request_headers=headers(), metadata_context=metadata(SUBSET_NAMESPACE, SUBSET, value)
        )
        assert parse(message.SerializeToString()) == Question(path="", among=frozenset(among))

    def test_other_metadata_is_no_hint(self) -> None:
        message = ProcessingRequest(
            request_headers=headers(), metadata_context=metadata("other", SUBSET, texts("1.1.1.1:1"))
        )
        assert parse(message.SerializeToString()) == Question(path="", among=None)


class TestAnswersOfReplicas:
    def test_who_served_is_read(self) -> None:
        message = ProcessingRequest(
            response_headers=headers(status="503"),
            metadata_context=metadata(NAMESPACE, SERVED, Value(string_value="1.1.1.1:1")),
        )
        assert parse(message.SerializeToString()) == Answered(status=503, served_by="1.1.1.1:1")

    @pytest.mark.parametrize("status", ["", "x", "-1", "9999", "２００"])
    def test_a_status_that_is_none(self, status: str) -> None:
        message = ProcessingRequest(response_headers=headers(status=status))
        assert parse(message.SerializeToString()) == Answered(status=0, served_by=None)


class TestMalformedQuestions:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff",
            b"\x22\x02\x0a\x00",  # request_body
            ProcessingRequest(observability_mode=True).SerializeToString(),
            bytes(MESSAGE_LIMIT_BYTES + 1),
        ],
    )
    def test_it_is_refused(self, data: bytes) -> None:
        with pytest.raises(QuestionMalformedError, match="picker: expected"):
            parse(data)

    @given(st.binary(max_size=200))
    def test_anything_is_a_question_or_refused(self, data: bytes) -> None:
        try:
            found = parse(data)
        except QuestionMalformedError:
            return
        assert isinstance(found, Question | Answered)


class TestReplies:
    def test_header_and_metadata_say_the_same(self) -> None:
        found = ProcessingResponse.FromString(destination(["1.1.1.1:1", "1.1.1.2:2"]))
        (option,) = found.request_headers.response.header_mutation.set_headers
        assert (option.header.key, option.header.raw_value) == (DESTINATION, b"1.1.1.1:1,1.1.1.2:2")
        named = found.dynamic_metadata.fields[NAMESPACE].struct_value.fields[DESTINATION]
        assert named.string_value == "1.1.1.1:1,1.1.1.2:2"

    def test_none_ready_is_503(self) -> None:
        found = ProcessingResponse.FromString(none_ready())
        assert found.immediate_response.status.code == 503

    def test_a_response_goes_on(self) -> None:
        assert ProcessingResponse.FromString(noted()).WhichOneof("response") == "response_headers"
