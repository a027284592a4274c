"""Who received which keys: the audit stream, held against what the log commits to.

The log has a digest of every batch of records. A record that was changed, left out or made up shows.

Source: docs/spec/log.md, section "Control, epochs, releases".
"""

from collections.abc import Iterable, Iterator

from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import AuditRecord, LogEntry, ReleasesEntry
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.parsing import parse_document
from s3ml.keyservice.replaying import audit_digest
from s3ml.primitives.errors import UntrustedPeerError


def committed_releases(
    client: KeyServiceClient, entries: Iterable[LogEntry]
) -> Iterator[tuple[int, AuditRecord]]:
    """Yield the number and the record of every release that a log commits to, in order.

    Args:
        client: Leads to the key service; trusted with nothing.
        entries: Of a log of which every step held.

    Raises:
        UntrustedPeerError: the records of a batch are not those that the log commits to.
        UnavailableError: the key service does not answer.
    """
    for entry in entries:
        if isinstance(entry.body, ReleasesEntry):
            batch = _read(client, entry.body)
            if len(batch) != entry.body.count or audit_digest(batch) != entry.body.sha256:
                last = entry.body.first + entry.body.count - 1
                raise UntrustedPeerError(
                    f"audit: records {entry.body.first} to {last} are not those that entry {entry.index} of "
                    "the log commits to: one was changed, left out or made up"
                )
            for number, data in enumerate(batch, entry.body.first):
                yield (
                    number,
                    parse_document(data, AuditRecord, what="audit record", limit_bytes=REQUEST_LIMIT_BYTES),
                )


def _read(client: KeyServiceClient, body: ReleasesEntry) -> list[bytes]:
    records: list[bytes] = []
    while len(records) < body.count:
        found = client.audit(body.first + len(records), body.first + body.count).records
        if not found:
            break
        records += found
    return records[: body.count]
