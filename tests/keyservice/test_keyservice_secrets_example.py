"""`examples/fetch_secrets.py`: an enclave program, a key service, and a disk that somebody else owns."""

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from s3ml.keyservice.documents import (
    ChallengeReply,
    ChallengeRequest,
    Release,
    ReleaseReply,
    ReleaseRequest,
)
from s3ml.keyservice.errors import NotFoundError
from tests.keyservice.keyservice_world import World
from tests.keyservice.test_keyservice_secrets import Secrets, key_document

EXAMPLE = Path(__file__).parents[2] / "examples" / "fetch_secrets.py"


@pytest.fixture
def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fetch_secrets", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Blocking:
    """The world's key service, as a thread sees it."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self._service = world.service
        self._loop = loop

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        return self._service.challenge(request)

    def release(self, request: ReleaseRequest) -> ReleaseReply:
        return asyncio.run_coroutine_threadsafe(self._service.release(request), self._loop).result(30)


async def attest(example: ModuleType, world: World) -> Release:
    key_service = Blocking(world, asyncio.get_running_loop())
    release: Release = await asyncio.to_thread(example.attest, world.session(), key_service)
    return release


@pytest.fixture
async def secrets(world: World) -> Secrets:
    await world.serve()
    owners = Secrets(world)
    await owners.put(key_document())
    return owners


class TestExample:
    """What it promises about data on a host's disk."""

    async def test_what_was_written_is_read_by_another_process_of_the_code(
        self, example: ModuleType, secrets: Secrets, tmp_path: Path
    ) -> None:
        example.write(await attest(example, secrets.world), tmp_path / "data", b"private")
        assert b"private" not in (tmp_path / "data").read_bytes()
        assert example.read(await attest(example, secrets.world), tmp_path / "data") == b"private"

    async def test_after_a_rotation_it_is_written_anew(
        self, example: ModuleType, secrets: Secrets, tmp_path: Path
    ) -> None:
        path = tmp_path / "data"
        example.write(await attest(example, secrets.world), path, b"private")
        old = path.read_bytes()
        await secrets.put(key_document(), version=2)
        assert example.read(await attest(example, secrets.world), path) == b"private"
        assert path.read_bytes() != old
        await secrets.put(key_document(), version=3)
        release = await attest(example, secrets.world)
        assert example.read(release, path) == b"private"
        path.write_bytes(old)
        with pytest.raises(NotFoundError, match="at-rest, version 1"):
            example.read(release, path)

    async def test_a_host_that_changes_or_swaps_files(
        self, example: ModuleType, secrets: Secrets, tmp_path: Path
    ) -> None:
        release = await attest(example, secrets.world)
        example.write(release, tmp_path / "one", b"1")
        (tmp_path / "two").write_bytes((tmp_path / "one").read_bytes())
        with pytest.raises(ValueError, match="was changed by somebody else"):
            example.read(release, tmp_path / "two")
