"""`s3ml log releases`: what the key service hands over as its audit stream is what its log commits to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from s3ml.apps.transparency.releases import committed_releases
from s3ml.keyservice.documents import AuditRecord, AuditReply
from s3ml.keyservice.errors import NotFoundError
from s3ml.keyservice.log import parse_entry
from s3ml.primitives.errors import UntrustedPeerError
from tests.keyservice.keyservice_world import MODEL_SERVER_CODE, World

Edit = Callable[[list[bytes]], list[bytes]]


class Stream:
    """A key service that hands over records as a test edits them, two at a time."""

    def __init__(self, records: list[bytes]) -> None:
        self.records = records

    def audit(self, start: int, end: int) -> AuditReply:
        return AuditReply(records=tuple(self.records[start : min(end, start + 2)]))


@pytest.fixture
async def released(tmp_path: Path) -> World:
    world = World(tmp_path / "log.sqlite")
    await world.serve()
    for _ in range(3):
        await world.release(world.session())
    await world.service._audit.flush()
    return world


def read(world: World, edit: Edit = lambda records: records) -> list[tuple[int, AuditRecord]]:
    entries = [parse_entry(data) for data in world.storage.entries(0, 100)]
    stream = Stream(edit(world.storage.audit(0, 100)))
    return list(committed_releases(stream, entries))  # type: ignore[arg-type]


class TestCommittedReleases:
    async def test_each_is_told_in_order(self, released: World) -> None:
        found = read(released)
        released.stop()
        assert [number for number, _ in found] == [0, 1, 2]
        assert {(record.service, record.measurement) for _, record in found} == {
            ("tumours", MODEL_SERVER_CODE.hex())
        }

    @pytest.mark.parametrize(
        "edit",
        [
            lambda records: records[:-1],
            lambda records: [records[1], records[0], *records[2:]],
            lambda records: [records[0].replace(b"tumours", b"tumour5"), *records[1:]],
            lambda records: [records[0], records[0], records[2]],
            lambda _: [],
        ],
        ids=["left-out", "swapped", "changed", "repeated", "none"],
    )
    async def test_a_lie_about_one_shows(self, released: World, edit: Edit) -> None:
        released.stop()
        released.start()
        with pytest.raises(UntrustedPeerError, match="records 0 to 2 are not those"):
            read(released, edit)
        released.stop()

    async def test_the_key_service_hands_over_what_is_committed(self, released: World) -> None:
        reply = await released.service.audit_records(1, 99)
        assert list(reply.records) == released.storage.audit(1, 3)
        with pytest.raises(NotFoundError, match="begins below 3"):
            await released.service.audit_records(3, 4)
        released.stop()
