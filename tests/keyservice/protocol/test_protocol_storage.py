"""The model's store is a store: it passes the contract tests of the real ones."""

from collections.abc import Callable

import pytest

from s3ml.keyservice.storage import Storage
from tests.keyservice.protocol.memory_storage import Cell, Database, MemoryStorage
from tests.keyservice.test_keyservice_storage import (
    TestACommit,
    TestClosing,
    TestLimits,
    TestRanges,
    TestSecrets,
    TestTheCommittedHead,
    TestTheHead,
    storage,
)

__all__ = [
    "TestACommit",
    "TestClosing",
    "TestLimits",
    "TestRanges",
    "TestSecrets",
    "TestTheCommittedHead",
    "TestTheHead",
    "storage",
]


@pytest.fixture
def make() -> Callable[[], Storage]:
    cell = Cell(Database())
    return lambda: MemoryStorage(cell)
