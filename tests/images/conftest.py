from pathlib import Path

import pytest

from tests.images.images_world import RUNTIME_FILES


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands in for Gramine's C library."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in RUNTIME_FILES:
        (folder / name).write_bytes(f"stands in for Gramine's {name}".encode())
    return folder
