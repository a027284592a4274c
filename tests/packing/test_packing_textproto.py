"""Triton's settings are read as the format says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.apps.packing.textproto import parse_text_proto
from s3ml.primitives.errors import ConfigurationError

CONFIG = """
# A model of Triton's documentation, with every form that values take.
name: "bert"  platform: 'onnxruntime_onnx'
max_batch_size: 8
input [
  { name: "ids" data_type: TYPE_INT64 dims: [ -1, 128 ] },
  { name: "mask", data_type: TYPE_INT64; dims: -1 dims: 128 }
]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100 # a comment at the end
  default_queue_policy < max_queue_size: 16 >
}
parameters: { key: "scale" value: { string_value: "a \\"quoted\\" word" } }
weights: [ 1.5, -2e3, .5f ]
empty: []
"""


class TestParsing:
    """Fields come in their order, each with all of its values."""

    def test_every_form_is_read(self) -> None:
        message = parse_text_proto(CONFIG)

        assert message["name"] == ["bert"]
        assert message["platform"] == ["onnxruntime_onnx"]
        assert message["max_batch_size"] == [8]
        assert message["input"] == [
            {"name": ["ids"], "data_type": ["TYPE_INT64"], "dims": [-1, 128]},
            {"name": ["mask"], "data_type": ["TYPE_INT64"], "dims": [-1, 128]},
        ]
        assert message["dynamic_batching"] == [
            {
                "preferred_batch_size": [4, 8],
                "max_queue_delay_microseconds": [100],
                "default_queue_policy": [{"max_queue_size": [16]}],
            }
        ]
        assert message["weights"] == [1.5, -2000.0, 0.5]
        assert message["empty"] == []

    def test_nothing_is_an_empty_message(self) -> None:
        assert parse_text_proto("  # only a comment\n") == {}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a: 1\nb 2", "line 2: expected a colon or a message, got 2"),
            ("a:", "line 1: expected a value, got the end"),
            ("a {", "line 1: expected a field or }, got the end"),
            ("a { b: 1 >", "line 1: expected a field or }, got >"),
            ("a: [1 2]", "line 1: expected a comma or the end of a list, got 2"),
            ("a: [1,", "line 1: expected a value, got the end"),
            ("}\n", "line 1: expected a field, got }"),
            ("a: 1\n\nb: $", "line 3: expected Protocol Buffers in text form"),
            ('a: "open', "line 1: expected Protocol Buffers in text form"),
            ("a{" * 40, "line 1: expected at most 32 levels"),
        ],
    )
    def test_a_mistake_is_told_with_its_line(self, text: str, said: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            parse_text_proto(text)
        assert str(refused.value) == said

    @given(st.text(alphabet="a1\"'{}<>[]:,;#\n -.", max_size=60))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            parse_text_proto(text)
        except ConfigurationError as error:
            assert "line" in str(error)
