"""What the storage says to PostgreSQL: each call one statement, so one transaction and one round trip.

`append` is a chain of parts that all take from the first, which moves the head where it is still the expected
one. Whoever comes second waits there for the row's lock, finds another size, and nothing follows.

Source: PostgreSQL documentation, "WITH Queries", section "Data-Modifying Statements in WITH", and
"Transaction Isolation", section "Read Committed Isolation Level" (a changed row is judged anew).
"""

from s3ml.keyservice.storage.protocol import Commit
from s3ml.keyservice.storage.values import READ_LIMIT_BYTES, TEXT_LIMIT_BYTES, VALUE_LIMIT_BYTES

LIMITS = {
    "value_limit": VALUE_LIMIT_BYTES,
    "text_limit": TEXT_LIMIT_BYTES,
    "read_limit": READ_LIMIT_BYTES,
    "listing_limit": READ_LIMIT_BYTES + VALUE_LIMIT_BYTES,
}
"""What every statement may refer to. A value that is too long does not travel: it is null in the reply."""

HEADS = """
SELECT head.size, CASE WHEN octet_length(checkpoint) <= %(text_limit)s THEN checkpoint END,
    CASE WHEN octet_length(seal) <= %(value_limit)s THEN seal END,
    committed.size, CASE WHEN octet_length(note) <= %(text_limit)s THEN note END
FROM (SELECT 1) AS always LEFT JOIN s3ml_head AS head ON head.one = 1
    LEFT JOIN s3ml_committed AS committed ON committed.one = 1 LIMIT 1
"""
ENTRIES = """
SELECT CASE WHEN octet_length(entry) <= %(value_limit)s THEN entry END FROM (
    SELECT idx, entry, sum(octet_length(entry)) OVER (ORDER BY idx) AS total FROM s3ml_log
    WHERE idx >= %(start)s AND idx < %(end)s ORDER BY idx LIMIT %(count)s) AS found
WHERE total <= %(read_limit)s OR idx = %(start)s ORDER BY idx
"""
AUDIT = """
SELECT CASE WHEN octet_length(record) <= %(value_limit)s THEN record END FROM (
    SELECT idx, record, sum(octet_length(record)) OVER (ORDER BY idx) AS total FROM s3ml_audit
    WHERE idx >= %(start)s AND idx < %(end)s ORDER BY idx LIMIT %(count)s) AS found
WHERE total <= %(read_limit)s OR idx = %(start)s ORDER BY idx
"""
WRAPPED = """
SELECT CASE WHEN octet_length(ciphertext) <= %(value_limit)s THEN ciphertext END FROM s3ml_secrets
WHERE kind = %(kind)s AND name = %(name)s AND version = %(version)s
"""
WRAPPED_OF_KIND = """
SELECT CASE WHEN octet_length(name) <= %(text_limit)s THEN name END,
    CASE WHEN octet_length(version) <= %(text_limit)s THEN version END,
    CASE WHEN octet_length(ciphertext) <= %(value_limit)s THEN ciphertext END
FROM (
    SELECT name, version, ciphertext, sum(octet_length(ciphertext)) OVER (ORDER BY name, version) AS total
    FROM s3ml_secrets WHERE kind = %(kind)s) AS found
WHERE total <= %(listing_limit)s ORDER BY name, version
"""
COMMIT = """
INSERT INTO s3ml_committed VALUES (1, %(size)s, %(note)s) ON CONFLICT (one) DO UPDATE
SET size = excluded.size, note = excluded.note WHERE s3ml_committed.size <= excluded.size
"""
_FIRST = "INSERT INTO s3ml_head VALUES (1, %(size)s, %(checkpoint)s, %(seal)b) ON CONFLICT DO NOTHING"
_NEXT = """UPDATE s3ml_head SET size = %(size)s, checkpoint = %(checkpoint)s, seal = %(seal)b
    WHERE one = 1 AND size = %(expected)s"""
_APPEND = """
WITH moved AS ({move} RETURNING 1), logged AS (
    INSERT INTO s3ml_log SELECT %(expected)s + n - 1, entry, %(batch)b
    FROM moved, unnest(%(entries)b::bytea[]) WITH ORDINALITY AS given (entry, n)
), audited AS (
    INSERT INTO s3ml_audit SELECT %(audit_start)s + n - 1, record
    FROM moved, unnest(%(audit)b::bytea[]) WITH ORDINALITY AS given (record, n)
), forgotten AS (
    DELETE FROM s3ml_secrets AS secrets
    USING moved, unnest(%(old_kinds)b::text[], %(old_names)b::text[], %(old_versions)b::text[])
        AS given (kind, name, version)
    WHERE (secrets.kind, secrets.name, secrets.version) = (given.kind, given.name, given.version)
), put AS (
    INSERT INTO s3ml_secrets SELECT kind, name, version, ciphertext
    FROM moved, unnest(%(kinds)b::text[], %(names)b::text[], %(versions)b::text[], %(ciphertexts)b::bytea[])
        AS given (kind, name, version, ciphertext)
    ON CONFLICT (kind, name, version) DO UPDATE SET ciphertext = excluded.ciphertext
), agreed AS (
    INSERT INTO s3ml_committed SELECT 1, %(committed)s::bigint, %(note)s::text
    FROM moved WHERE %(committed)s::bigint IS NOT NULL ON CONFLICT (one) DO UPDATE
    SET size = excluded.size, note = excluded.note WHERE s3ml_committed.size <= excluded.size
) SELECT count(*) FROM moved
"""
APPEND_FIRST = _APPEND.format(move=_FIRST)
APPEND_NEXT = _APPEND.format(move=_NEXT)
LOCK_HEAD = "UPDATE s3ml_head SET size = size WHERE one = 1 RETURNING size"
STORED = """
SELECT CASE WHEN octet_length(entry) <= %(value_limit)s THEN entry END,
    CASE WHEN octet_length(batch) <= %(value_limit)s THEN batch END
FROM s3ml_log WHERE idx >= %(start)s AND idx < %(end)s ORDER BY idx LIMIT %(count)s
"""


def append_parameters(commit: Commit, batch: bytes) -> dict[str, object]:
    """Return what `APPEND_FIRST` and `APPEND_NEXT` take.

    Args:
        commit: What to store.
        batch: Random bytes that tell this attempt from every other.
    """
    put = {secret.name: secret.ciphertext for secret in commit.secrets}
    forget = set(commit.forget) - put.keys()
    committed = commit.committed
    return {
        "expected": commit.expected_size,
        "size": commit.head.size,
        "checkpoint": commit.head.checkpoint,
        "seal": commit.head.seal,
        "batch": batch,
        "entries": list(commit.entries),
        "audit_start": commit.audit_start,
        "audit": list(commit.audit),
        "old_kinds": [name.kind for name in forget],
        "old_names": [name.name for name in forget],
        "old_versions": [name.version for name in forget],
        "kinds": [name.kind for name in put],
        "names": [name.name for name in put],
        "versions": [name.version for name in put],
        "ciphertexts": list(put.values()),
        "committed": None if committed is None else committed.size,
        "note": None if committed is None else committed.note,
    }
