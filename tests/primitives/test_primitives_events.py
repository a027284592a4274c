"""Lines of a log: one JSON object each, from fields on a list."""

import json
from datetime import UTC, datetime

import pytest

from s3ml.primitives.events import EventWriter
from tests.clocks import FakeClock


def written(fields: dict[str, object]) -> dict[str, object]:
    lines: list[str] = []
    writer = EventWriter(lines.append, FakeClock(), fields=frozenset({"a", "b"}), text_limit=5)
    writer.write("x", fields)  # type: ignore[arg-type]
    (line,) = lines
    assert line.endswith("\n")
    found: dict[str, object] = json.loads(line)
    return found


class TestLines:
    def test_the_time_and_the_event_come_first(self) -> None:
        found = written({"a": 1})
        assert list(found) == ["time", "event", "a"]
        assert datetime.fromisoformat(str(found["time"])).tzinfo == UTC
        assert found["event"] == "x"

    def test_texts_are_cut_and_numbers_kept(self) -> None:
        assert written({"a": "123456", "b": 1234567})["a"] == "12345"
        assert written({"a": "123456", "b": 1234567})["b"] == 1234567

    def test_a_line_stays_one_line(self) -> None:
        lines: list[str] = []
        EventWriter(lines.append, FakeClock(), fields=frozenset({"a"})).write("x", {"a": "b\nc\u2028d"})
        assert len(lines[0].splitlines()) == 1

    def test_what_is_not_on_the_list_is_refused_before_anything_is_written(self) -> None:
        with pytest.raises(ValueError, match="fields not on the list: private_key"):
            written({"a": 1, "private_key": "s"})
