"""Edit a key service's storage by hand, as its host can: change, move, delete and swap each kind of record.

`EDITS` holds an edit for every column of every table, by name, and `secret_edits` those of one kind of
secret; a test in `test_keyservice_storage_editing.py` fails when a column has none. An edit is done on a
storage that holds at least three entries and audit records and a committed head::

    with Editor(setting) as editor:
        edit.do(editor)

PostgreSQL may be edited while replicas serve; SQLite's file only while nobody has it open.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from s3ml.keyservice.storage.opening import POSTGRESQL_SCHEMES

PREFIX = "s3ml_"
KEYS = {
    "log": ("idx",),
    "audit": ("idx",),
    "head": ("one",),
    "committed": ("one",),
    "secrets": ("kind", "name", "version"),
    "format": ("one",),
}
Row = dict[str, Any]


def flipped(value: Any) -> Any:
    """Return another value of the same type and length: one bit, one character, or the next number."""
    if isinstance(value, int):
        return value + 1
    middle = len(value) // 2
    if isinstance(value, bytes):
        return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
    other = "A" if value[middle] != "A" else "B"
    return value[:middle] + other + value[middle + 1 :]


class Editor:
    """Whoever can write to the database that `setting` names."""

    def __init__(self, setting: str) -> None:
        self.is_postgresql = setting.startswith(POSTGRESQL_SCHEMES)
        if self.is_postgresql:
            self._connection: Any = psycopg.connect(setting, autocommit=True)
        else:
            assert Path(setting).is_file()
            self._connection = sqlite3.connect(setting, isolation_level=None)
            self._connection.execute("PRAGMA ignore_check_constraints=ON")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement with ``?`` for parameters and ``{name}`` for tables; return its rows."""
        prefix = PREFIX if self.is_postgresql else ""
        text = statement.format(**{table: prefix + table for table in KEYS})
        cursor = self._connection.execute(text.replace("?", "%s") if self.is_postgresql else text, parameters)
        return list(cursor.fetchall()) if cursor.description else []

    def columns(self) -> set[tuple[str, str]]:
        """Return every column of every table there is, as (table, column)."""
        if self.is_postgresql:
            found = self.run(
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = current_schema()"
            )
        else:
            found = self.run(
                "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c"
                " WHERE m.type = 'table'"
            )
        return {(table.removeprefix(PREFIX), column) for table, column in found}

    def rows(self, table: str, kind: str | None = None) -> list[Row]:
        """Return the rows of a table in the order of their keys; of secrets, only those of `kind`."""
        names = sorted(column for of, column in self.columns() if of == table)
        found = self.run(f"SELECT {', '.join(names)} FROM {{{table}}}")  # noqa: S608
        rows = [dict(zip(names, row, strict=True)) for row in found]
        rows = [row for row in rows if kind is None or row["kind"] == kind]
        return sorted(rows, key=lambda row: [row[key] for key in KEYS[table]])

    def everything(self) -> dict[str, list[Row]]:
        """Return all rows of all tables."""
        return {table: self.rows(table) for table in KEYS if (table, KEYS[table][0]) in self.columns()}

    def change(self, table: str, row: Row, **values: Any) -> None:
        """Give a row other values, its key included."""
        keys = KEYS[table]
        if self.is_postgresql and "one" in values:
            self.run(f"ALTER TABLE {{{table}}} DROP CONSTRAINT {PREFIX}{table}_one_check")
        there = " AND ".join(f"{key} = ?" for key in keys)
        new = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE {{{table}}} SET {new} WHERE {there}"  # noqa: S608
        self.run(statement, *values.values(), *(row[key] for key in keys))

    def delete(self, table: str, row: Row) -> None:
        """Delete a row."""
        keys = KEYS[table]
        there = " AND ".join(f"{key} = ?" for key in keys)
        self.run(f"DELETE FROM {{{table}}} WHERE {there}", *(row[key] for key in keys))  # noqa: S608

    def swap(self, table: str, first: Row, second: Row, column: str) -> None:
        """Exchange the values that two rows have in a column."""
        self.change(table, first, **{column: second[column]})
        self.change(table, second, **{column: first[column]})

    def set_format(self, number: int) -> None:
        """Change the number of the format."""
        if self.is_postgresql:
            self.run("UPDATE {format} SET format = ?", number)
        else:
            self.run(f"PRAGMA user_version={number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One thing that a host does to its database.

    Args:
        name: For a test's id.
        touches: The (table, column) pairs that differ afterwards, where that database has them.
        do: Does it.
        is_harmless: Nobody reads what it changes while nothing fails.
    """

    name: str
    touches: frozenset[tuple[str, str]]
    do: Callable[[Editor], None]
    is_harmless: bool = False

    def __str__(self) -> str:
        return self.name


def _edit(name: str, table: str, columns: str, do: Callable[[Editor], None], **more: bool) -> Edit:
    return Edit(name=name, touches=frozenset((table, column) for column in columns.split()), do=do, **more)


def _change(name: str, table: str, column: str, change: Callable[[Any], Any], at: int = -1) -> Edit:
    def do(editor: Editor) -> None:
        row = editor.rows(table)[at]
        editor.change(table, row, **{column: change(row[column])})

    return _edit(name, table, column, do)


def _change_batch(editor: Editor) -> None:
    if editor.is_postgresql:
        row = editor.rows("log")[-1]
        editor.change("log", row, batch=flipped(row["batch"]))


def _listed(what: str, table: str, column: str) -> tuple[Edit, ...]:
    """Return the edits of entries, or of audit records."""

    def delete(at: int) -> Callable[[Editor], None]:
        return lambda editor: editor.delete(table, editor.rows(table)[at])

    def move_behind(editor: Editor) -> None:
        rows = editor.rows(table)
        editor.change(table, rows[1], idx=rows[-1]["idx"] + 1)

    def swap(editor: Editor) -> None:
        rows = editor.rows(table)
        editor.swap(table, rows[-2], rows[-1], column)

    def repeat(editor: Editor) -> None:
        rows = editor.rows(table)
        editor.change(table, rows[-1], **{column: rows[-2][column]})

    whole = f"idx {column} batch" if table == "log" else f"idx {column}"
    return (
        _change(f"{what}-changed", table, column, flipped),
        _change(f"first-{what}-changed", table, column, flipped, at=0),
        _change(f"{what}-cut-short", table, column, lambda value: value[:-1]),
        _change(f"{what}-emptied", table, column, lambda _: b""),
        _edit(f"{what}-repeated", table, column, repeat),
        _edit(f"two-{what}s-swapped", table, column, swap),
        _edit(f"{what}-moved-behind", table, f"idx {column}", move_behind),
        _edit(f"first-{what}-deleted", table, whole, delete(0)),
        _edit(f"middle-{what}-deleted", table, whole, delete(1)),
        _edit(f"last-{what}-deleted", table, whole, delete(-1)),
    )


def _single(what: str, table: str, columns: str) -> tuple[Edit, ...]:
    """Return the edits of the one row of a table, beside those of its texts."""

    def hide(editor: Editor) -> None:
        editor.change(table, editor.rows(table)[0], one=2)

    return (
        _change(f"{what}-size-grown", table, "size", lambda size: size + 1),
        _change(f"{what}-size-shrunk", table, "size", lambda size: size - 1),
        _edit(f"{what}-moved-aside", table, "one", hide),
        _edit(
            f"{what}-deleted",
            table,
            f"one {columns}",
            lambda editor: editor.delete(table, editor.rows(table)[0]),
        ),
    )


def _swap_notes(editor: Editor) -> None:
    head, committed = editor.rows("head")[0], editor.rows("committed")[0]
    editor.change("head", head, checkpoint=committed["note"])
    editor.change("committed", committed, note=head["checkpoint"])


def _hide_format(editor: Editor) -> None:
    if editor.is_postgresql:
        editor.change("format", editor.rows("format")[0], one=2)


EDITS: tuple[Edit, ...] = (
    *_listed("entry", "log", "entry"),
    _edit("batch-changed", "log", "batch", _change_batch, is_harmless=True),
    *_listed("audit-record", "audit", "record"),
    *_single("head", "head", "size checkpoint seal"),
    _change("checkpoint-changed", "head", "checkpoint", flipped),
    _change("checkpoint-emptied", "head", "checkpoint", lambda _: ""),
    _change("seal-changed", "head", "seal", flipped),
    _change("seal-emptied", "head", "seal", lambda _: b""),
    *_single("committed", "committed", "size note"),
    _change("note-changed", "committed", "note", flipped),
    _change("note-emptied", "committed", "note", lambda _: ""),
    Edit(
        name="checkpoint-and-note-swapped",
        touches=frozenset({("head", "checkpoint"), ("committed", "note")}),
        do=_swap_notes,
    ),
    _edit("format-changed", "format", "format", lambda editor: editor.set_format(99)),
    _edit("format-moved-aside", "format", "one", _hide_format, is_harmless=True),
)
"""Every edit but those of secrets."""


def secret_edits(kind: str, other_kind: str = "") -> tuple[Edit, ...]:
    """Return the edits of the newest secret of a kind, of which there is one; of two where they are swapped.

    Args:
        kind: The secret's.
        other_kind: Of the secret that it is swapped with; none means its own kind.
    """

    def change(column: str, to: Callable[[Any], Any]) -> Callable[[Editor], None]:
        def do(editor: Editor) -> None:
            row = editor.rows("secrets", kind)[-1]
            editor.change("secrets", row, **{column: to(row[column])})

        return do

    def swap(editor: Editor) -> None:
        others = editor.rows("secrets", other_kind or kind)
        mine = editor.rows("secrets", kind)[-1]
        editor.swap("secrets", mine, next(row for row in others if row != mine), "ciphertext")

    def delete(editor: Editor) -> None:
        editor.delete("secrets", editor.rows("secrets", kind)[-1])

    def moved(value: str) -> str:
        return value + "x"

    with_whom = f"-with-{other_kind}" if other_kind else ""
    return (
        _edit(f"{kind}-changed", "secrets", "ciphertext", change("ciphertext", flipped)),
        _edit(f"{kind}-cut-short", "secrets", "ciphertext", change("ciphertext", lambda value: value[:-1])),
        _edit(f"{kind}-emptied", "secrets", "ciphertext", change("ciphertext", lambda _: b"")),
        _edit(f"{kind}-swapped{with_whom}", "secrets", "ciphertext", swap),
        _edit(f"{kind}-of-another-kind", "secrets", "kind", change("kind", moved)),
        _edit(f"{kind}-of-another-name", "secrets", "name", change("name", moved)),
        _edit(f"{kind}-of-another-version", "secrets", "version", change("version", moved)),
        _edit(f"{kind}-deleted", "secrets", "kind name version ciphertext", delete),
    )
