"""What models held goes back to the host when they go, and not at the end of the process."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from s3ml.modelserver import memory
from s3ml.modelserver.memory import large_pieces_apart
from s3ml.primitives.units import MIB

REPOSITORY = Path(__file__).parents[2]
# Takes pieces as opening a model does, frees all but every eighth, and says what stays resident of the rest.
PIECES = """
import ctypes
from pathlib import Path
from s3ml.modelserver.memory import large_pieces_apart

library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
library.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def take(count):
    pieces = [library.malloc(1 << 20) for _ in range(count)]
    for piece in pieces:
        library.memset(piece, 1, 1 << 20)
    return pieces

library.free(library.malloc(16 << 20))  # From here on glibc would keep pieces of 1 MiB in its heap.
with large_pieces_apart():
    before, pieces = resident(), take(64)
kept = pieces[7::8]
for piece in set(pieces) - set(kept):
    library.free(piece)
print(resident() - before - (len(kept) << 20))
"""


class TestPieces:
    """What is freed between pieces that stay goes back."""

    def test_it_goes_back_at_once(self) -> None:
        done = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=True)
        assert int(done.stdout) < 4 * MIB

    def test_without_it_it_stays(self) -> None:
        """Else the fact above would prove nothing."""
        script = PIECES.replace("with large_pieces_apart():", "if True:")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert int(done.stdout) > 30 * MIB

    def test_another_library_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
        with large_pieces_apart():
            assert memory.return_free_memory() is None  # type: ignore[func-returns-value]


class TestModels:
    """Three models of 40 MiB come and go."""

    def test_what_they_held_goes_back(self) -> None:
        command = [sys.executable, "-m", "tests.modelserver.memory_process"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        before, loaded, after = json.loads(done.stdout)
        assert loaded - before > 100 * MIB
        assert after - before < 25 * MIB
