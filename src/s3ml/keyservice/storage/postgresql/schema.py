"""The tables in PostgreSQL, made by whichever replica comes first.

They lie in the first schema of the search path, so that several deployments can share a database. An
advisory lock makes one replica wait for another that is just making or changing them.
"""

from s3ml.keyservice.storage.postgresql.session import BIGINT, BOOLEAN, Session
from s3ml.primitives.errors import ConfigurationError

FORMAT = 1
_LOCK = int.from_bytes(b"S3MLfmt")
_FORMAT_1 = """
CREATE TABLE s3ml_format (one int PRIMARY KEY CHECK (one = 1), format bigint NOT NULL);
INSERT INTO s3ml_format VALUES (1, 0);
CREATE TABLE s3ml_log (idx bigint PRIMARY KEY, entry bytea NOT NULL, batch bytea NOT NULL);
CREATE TABLE s3ml_audit (idx bigint PRIMARY KEY, record bytea NOT NULL);
CREATE TABLE s3ml_head (one int PRIMARY KEY CHECK (one = 1), size bigint NOT NULL, checkpoint text NOT NULL,
    seal bytea NOT NULL);
CREATE TABLE s3ml_committed (one int PRIMARY KEY CHECK (one = 1), size bigint NOT NULL, note text NOT NULL);
CREATE TABLE s3ml_secrets (kind text COLLATE "C", name text COLLATE "C", version text COLLATE "C",
    ciphertext bytea NOT NULL, PRIMARY KEY (kind, name, version))
"""
# Read from the catalogue's rows: `to_regclass` would remember what it did not find before it waited.
_IS_THERE = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_tables
    WHERE schemaname = ANY (current_schemas(false)) AND tablename = 's3ml_format')
"""
STEPS = (_FORMAT_1,)
"""What leads from each format to the next; an empty schema takes them all."""


def prepare(session: Session) -> None:
    """Make the tables, or bring them up to this format.

    Raises:
        ConfigurationError: they have a format that is not known here.
        psycopg.Error: the server refused, or was not heard of.
    """
    if _found(session) == FORMAT:
        return  # a role that may not create tables can serve
    with session.transaction():
        session.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = _found(session)
        if found > FORMAT:
            raise ConfigurationError(
                f"storage: PostgreSQL: expected a format up to {FORMAT}, got {found}: run a later version"
            )
        for step in STEPS[found:]:
            session.execute(step.encode())
        session.execute("UPDATE s3ml_format SET format = %s", (FORMAT,))


def _found(session: Session) -> int:
    ((is_there,),) = session.rows(_IS_THERE, {}, BOOLEAN)
    if not is_there:
        return 0
    found = session.rows("SELECT format FROM s3ml_format", {}, BIGINT)
    return int(str(found[0][0])) if found else 0
