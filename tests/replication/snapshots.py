"""Whole copies of a key service's database, put back as a host can put back a backup: at one moment."""

from dataclasses import dataclass

import psycopg

from tests.replication.fleet import Fleet

TABLES = ("log", "audit", "head", "committed", "secrets", "format")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a database held at some moment.

    Args:
        fleet: Whose database.
        name: Of the schema that the copies lie in.
    """

    fleet: Fleet
    name: str

    @classmethod
    def take(cls, fleet: Fleet, name: str) -> "Snapshot":
        """Copy every table, as they are at one moment."""
        name = f"{fleet.schema}_{name}"
        found = cls(fleet, name)
        copies = "".join(f"CREATE TABLE {name}.{table} AS TABLE s3ml_{table};" for table in TABLES)
        found._run(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA {name}; {copies}")
        return found

    def restore(self) -> None:
        """Put everything back, in one transaction that no replica writes into meanwhile."""
        locked = ", ".join(f"s3ml_{table}" for table in ("head", *TABLES))
        self._run(
            f"LOCK TABLE {locked} IN SHARE ROW EXCLUSIVE MODE;"  # noqa: S608 - names of ours
            + "".join(
                f"DELETE FROM s3ml_{table}; INSERT INTO s3ml_{table} SELECT * FROM {self.name}.{table};"  # noqa: S608
                for table in TABLES
            )
        )

    def drop(self) -> None:
        """Forget the copy."""
        self._run(f"DROP SCHEMA {self.name} CASCADE")

    def _run(self, statements: str) -> None:
        with psycopg.connect(self.fleet.server.url(schema=self.fleet.schema)) as connection:
            connection.execute(statements.encode())
