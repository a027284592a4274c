import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.apps.images.elf import needed_libraries
from s3ml.primitives.errors import ConfigurationError

STRINGS = b"\0libc.so.6\0libm.so.6\0"
BASE = 0x1000
HEADER_BYTES = 64
ENTRY_BYTES = 56


def elf(
    needed: tuple[int, ...] = (1, 11),
    *,
    machine: int = 62,
    kind: bytes = b"\x02\x01",
    strings_at: int | None = None,
) -> bytes:
    """Build a shared library with one segment to load and the names at `needed` in its string table."""
    data_at = HEADER_BYTES + 2 * ENTRY_BYTES
    address = BASE + data_at if strings_at is None else strings_at
    dynamic_at = data_at + len(STRINGS)
    entries = [*((1, name) for name in needed), (5, address), (0, 0), (1, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    size = dynamic_at + len(dynamic)
    header = b"\x7fELF" + kind + bytes(10) + struct.pack("<HHI", 3, machine, 1)
    header += struct.pack("<QQQIHHHHHH", 0, HEADER_BYTES, 0, 0, HEADER_BYTES, ENTRY_BYTES, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    segment = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, BASE + dynamic_at, 0, len(dynamic), len(dynamic), 8)
    return header + load + segment + STRINGS + dynamic


def read(folder: Path, data: bytes) -> tuple[str, ...]:
    path = folder / "library.so"
    path.write_bytes(data)
    return needed_libraries(path)


class TestNeededLibraries:
    """What the dynamic loader would be asked for."""

    def test_names_are_in_the_order_of_the_file(self, tmp_path: Path) -> None:
        assert read(tmp_path, elf()) == ("libc.so.6", "libm.so.6")
        assert read(tmp_path, elf((11, 1))) == ("libm.so.6", "libc.so.6")

    def test_a_library_may_need_none(self, tmp_path: Path) -> None:
        assert read(tmp_path, elf(())) == ()

    def test_a_program_without_a_dynamic_section_needs_none(self, tmp_path: Path) -> None:
        data = bytearray(elf())
        struct.pack_into("<H", data, 56, 1)
        assert read(tmp_path, bytes(data)) == ()

    @pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fEL"])
    def test_what_is_no_elf_file_needs_none(self, tmp_path: Path, data: bytes) -> None:
        assert read(tmp_path, data) == ()

    @pytest.mark.parametrize("data", [elf(machine=183), elf(kind=b"\x01\x01"), elf(kind=b"\x02\x02")])
    def test_another_machine_s_is_refused(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="another machine"):
            read(tmp_path, data)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x7fELF",
            elf()[:100],
            elf()[:-40],
            elf((10_000,)),
            elf(strings_at=1),
            elf().replace(b"libc", b"\xff\xff\xff\xff"),
        ],
        ids=["magic", "headers", "dynamic", "name", "strings", "ascii"],
    )
    def test_a_damaged_one_is_refused(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="damaged"):
            read(tmp_path, data)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read"):
            needed_libraries(tmp_path / "none")

    @given(at=st.integers(4, len(elf()) - 8), value=st.integers(0, 2**64 - 1))
    def test_any_damage_is_read_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, value: int
    ) -> None:
        data = bytearray(elf())
        struct.pack_into("<Q", data, at, value)
        path = tmp_path_factory.getbasetemp() / "damaged.so"
        path.write_bytes(data)
        try:
            assert all(isinstance(name, str) for name in needed_libraries(path))
        except ConfigurationError as error:
            assert "\n" not in str(error)
