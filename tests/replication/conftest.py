"""What all tests of replication share: one simulated platform, one PostgreSQL, and fleets on them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keyservice.postgres_server import postgres
from tests.replication.fleet import Platform

__all__ = ["platform", "postgres"]


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A simulated platform, which builds each image once."""
    folder = Path(tempfile.mkdtemp(prefix="s3ml-rp-", dir="/tmp"))
    running = Platform(folder)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
