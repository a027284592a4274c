"""What has to be restored is written down whole, parsed strictly, and changed by one process at a time."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory.emulated.group import check_size
from s3ml.tee_memory.emulated.holder import holder_of, is_alive
from s3ml.tee_memory.emulated.state import Holder, Node, Registry, State, Swap, parse_state

MIB = 1 << 20
SWAP = Swap(device=0, is_added=False, algorithm_before="lzo-rle", devices_before=(0,))
STATE = State(
    boot_id="0b5e",
    page_cluster_before=3,
    swap=SWAP,
    nodes={"one": Node(size_bytes=16 * MIB, holder=Holder(pid=7, started_ticks=99))},
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(folder=tmp_path / "state")


class TestRegistry:
    """One file under one lock; nothing of it stays once nothing has to be restored."""

    def test_what_was_written_is_read(self, registry: Registry) -> None:
        assert registry.read() is None
        with registry.locked():
            registry.write(STATE)
        assert registry.read() == STATE

    def test_nothing_is_left_behind(self, registry: Registry) -> None:
        with registry.locked():
            registry.write(STATE)
        (registry.folder / ".state.json.abc").write_bytes(b"half")
        with registry.locked():
            registry.write(None)
        assert not registry.folder.exists()

    def test_files_of_others_stay(self, registry: Registry) -> None:
        registry.folder.mkdir()
        (registry.folder / "notes").write_bytes(b"")
        with registry.locked():
            registry.write(None)
        assert [path.name for path in registry.folder.iterdir()] == ["notes"]

    def test_one_process_at_a_time(self, registry: Registry) -> None:
        """The lock holds although its file, and its folder, come and go."""
        inside: list[int] = []

        def enter() -> None:
            for _ in range(50):
                with registry.locked():
                    inside.append(1)
                    assert sum(inside) == 1
                    inside.append(-1)

        threads = [threading.Thread(target=enter) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(inside) == 4 * 50 * 2

    def test_a_folder_that_others_can_write_to_is_refused(self, registry: Registry) -> None:
        registry.folder.mkdir()
        (registry.folder / "state.json").write_bytes(b"{}")
        registry.folder.chmod(0o777)
        for use in (registry.read, registry.locked().__enter__):
            with pytest.raises(ConfigurationError, match="that only its owner, this user, can write to"):
                use()

    def test_a_folder_that_cannot_be_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with (
            pytest.raises(ConfigurationError, match=r"emulated EPC: .*file/state: "),
            Registry(folder=tmp_path / "file/state").locked(),
        ):
            raise AssertionError

    def test_nodes_come_and_go(self) -> None:
        two = STATE.with_node("two", Node(size_bytes=8 * MIB))
        assert list(two.nodes) == ["one", "two"]
        assert two.with_node("two", None) == STATE
        assert two.with_node("none", None) == two


class TestParsing:
    """A state that is none restores nothing: it is refused."""

    def change(self, **changes: Any) -> bytes:
        document = json.loads(parsed())
        return json.dumps(document | changes).encode()

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"page_cluster_before": -1},
            {"page_cluster_before": "3"},
            {"boot_id": ""},
            {"nodes": {"one": {"size_bytes": "much"}}},
            {"nodes": {"": {"size_bytes": 1}}},
            {"swap": None},
            {"other": 1},
        ],
    )
    def test_what_is_wrong_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match="emulated EPC: its state: "):
            parse_state(self.change(**changes))

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
    def test_what_is_no_document_is_refused(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="emulated EPC: its state: "):
            parse_state(data)

    def test_what_is_too_long_is_refused(self, registry: Registry) -> None:
        registry.folder.mkdir()
        (registry.folder / "state.json").write_bytes(b" " * (257 << 10))
        with pytest.raises(ConfigurationError, match="expected at most"):
            registry.read()


def parsed() -> bytes:
    """Return the state as it is stored."""
    import msgspec

    return msgspec.json.encode(STATE)


class TestHolder:
    """A holder is a number and a start: another process with its number is not it."""

    def test_this_process_is_alive(self) -> None:
        this = holder_of(os.getpid())
        assert this is not None
        assert is_alive(this)
        assert not is_alive(Holder(pid=this.pid, started_ticks=this.started_ticks + 1))
        assert not is_alive(None)

    def test_names_may_hold_anything(self, tmp_path: Path) -> None:
        (tmp_path / "7").mkdir()
        fields = " ".join(str(number) for number in range(4, 53))
        (tmp_path / "7/stat").write_text(f"7 (a) b (c) S {fields}\n", encoding="utf-8")
        assert holder_of(7, proc=tmp_path) == Holder(pid=7, started_ticks=22)
        (tmp_path / "7/stat").write_text(f"7 (a) Z {fields}\n", encoding="utf-8")
        assert holder_of(7, proc=tmp_path) is None
        assert holder_of(8, proc=tmp_path) is None


class TestSize:
    """Whole pages, 4 MiB at least."""

    def test_it_is_accepted(self) -> None:
        assert check_size(4 * MIB) == 4 * MIB

    @pytest.mark.parametrize("size", [0, -4096, 4 * MIB - 4096, 4 * MIB + 1, 1 << 60])
    def test_others_are_refused(self, size: int) -> None:
        with pytest.raises(ConfigurationError, match="expected 4 MiB at least, in pages of 4096 bytes"):
            check_size(size)
