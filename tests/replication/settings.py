"""A fleet that serves, with the people who deal with it: what most tests begin from."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3ml.keyservice.documents import ControlEntry, ControlMessage, ServiceTimes
from s3ml.keyservice.log import parse_entry
from tests.keyservice.postgres_server import PostgresServer
from tests.replication.fleet import Fleet, Platform
from tests.replication.people import People, policy_of

_DEFAULT_TIMES = ServiceTimes()


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs, and who deals with it."""

    fleet: Fleet
    people: People

    def places_of(self, message: ControlMessage) -> list[int]:
        """Return where a message stands in the stored log, however often."""
        found = []
        for index, (entry,) in enumerate(self.fleet.run("SELECT entry FROM s3ml_log ORDER BY idx")):
            assert isinstance(entry, bytes)
            body = parse_entry(entry).body
            if isinstance(body, ControlEntry) and body.statement.payload == message.statement.payload:
                found.append(index)
        return found


@contextmanager
def begun(
    platform: Platform,
    server: PostgresServer,
    *,
    replicas: int = 2,
    witnesses: int = 0,
    has_peers: bool = True,
    times: ServiceTimes = _DEFAULT_TIMES,
) -> Iterator[Setting]:
    """Run a fleet of which every replica serves one service; replica 0 began it, and the others joined."""
    folder = Path(tempfile.mkdtemp(prefix="s3ml-fl-", dir="/tmp"))
    try:
        with Fleet(
            platform, server, folder, replicas=replicas, witnesses=witnesses, has_peers=has_peers
        ) as fleet:
            for witness in fleet.witnesses:
                witness.start()
            fleet.start()
            launched = fleet.members[0].launched
            assert launched is not None
            code = bytes.fromhex(launched.measurement)
            people = People(fleet, policy_of(code, root=platform.root))
            people.serve(times=times)
            fleet.until_serving()
            for (
                member
            ) in fleet.members:  # admitted is not yet present: each proves first that it sees the newest
                people.bundled(member.number)
            yield Setting(fleet, people)
    finally:
        shutil.rmtree(folder)
