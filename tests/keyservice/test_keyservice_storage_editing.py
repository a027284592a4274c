"""The edits that other tests attack with do what they say, and none is missing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from s3ml.keyservice.storage import Commit, Committed, Head, SecretName, WrappedSecret, open_storage
from tests.keyservice.storage_editing import EDITS, Edit, Editor, Row, secret_edits

ALL = (*EDITS, *secret_edits("kind"), *secret_edits("kind", "other"))
FULL = Commit(
    expected_size=0,
    entries=(b"a", b"b", b"c"),
    head=Head(size=3, checkpoint="checkpoint", seal=b"seal"),
    secrets=tuple(
        WrappedSecret(
            name=SecretName(kind=kind, name="n", version=version), ciphertext=f"{kind}{version}".encode()
        )
        for kind in ("kind", "other")
        for version in ("1", "2")
    ),
    audit=(b"x", b"y", b"z"),
    committed=Committed(size=3, note="note"),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    chosen = str(tmp_path / "log.sqlite")
    if request.param == "postgresql":
        chosen = request.getfixturevalue("database")
    storage = open_storage(chosen)
    storage.append(FULL)
    storage.close()
    return chosen


def values_of(rows: list[Row], column: str) -> list[object]:
    return [row[column] for row in rows]


class TestEdits:
    def test_every_column_has_one(self, setting: str) -> None:
        """Whoever adds a column adds an edit of it: so the tests that attack storage attack it, too."""
        with Editor(setting) as editor:
            assert editor.columns() <= {touched for edit in ALL for touched in edit.touches}

    def test_names_are_unique(self) -> None:
        names = [edit.name for edit in (*EDITS, *secret_edits("a"), *secret_edits("b"))]
        assert len(names) == len(set(names))

    @pytest.mark.parametrize("edit", ALL, ids=str)
    def test_it_touches_what_it_says_and_nothing_else(self, setting: str, edit: Edit) -> None:
        with Editor(setting) as editor:
            columns, before = editor.columns(), editor.everything()
            edit.do(editor)
            after = editor.everything()
        touched = {
            (table, column)
            for table, column in columns
            if values_of(before[table], column) != values_of(after[table], column)
        }
        assert touched == edit.touches & columns

    @pytest.mark.parametrize("edit", [edit for edit in ALL if edit.name == "format-changed"], ids=str)
    def test_another_format_is_refused(self, setting: str, edit: Edit) -> None:
        with Editor(setting) as editor:
            edit.do(editor)
        opened: Callable[[], object] = lambda: open_storage(setting)  # noqa: E731
        with pytest.raises(Exception, match=r"expected a format up to \d, got 99"):
            opened()
