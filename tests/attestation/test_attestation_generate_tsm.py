"""configfs-tsm: over a verified fake, whose contract the kernel's is held to where it is at hand."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3ml.attestation.generate import Directory
from s3ml.attestation.generate.directory import read_bounded, write_whole
from s3ml.attestation.generate.tsm import (
    ATTEMPTS,
    BLOB_LIMIT_BYTES,
    FIRST_PAUSE_S,
    Provider,
    TsmReport,
    TsmReports,
    find_provider,
)
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.fakes.pseudo_files import failure
from tests.attestation.fakes.tsm import FakeEntry, FakeTsm

REAL = Path("/sys/kernel/config/tsm/report")
REPORT_DATA = hashlib.sha512(b"the request").digest()
OTHER = hashlib.sha512(b"another request").digest()
TABLE = b"the host's table"


def opaque(inblob: bytes, privlevel: int) -> bytes:
    """A report whose content does not matter here; as long as a real one."""
    return b"report".ljust(80, b"\0") + inblob + bytes([privlevel]) * 4000


class Pauses:
    """Waits for nothing and remembers how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def read(file: Directory) -> bytes:
    return read_bounded(file, limit_bytes=BLOB_LIMIT_BYTES, what="test")


class TestContract:
    """What the kernel documents, shown of the fake, and of the kernel in a confidential guest."""

    @pytest.fixture(params=["fake TDX", "fake SEV-SNP", "real"])
    def root(self, request: pytest.FixtureRequest) -> Directory:
        if request.param != "real":
            provider = "tdx_guest" if "TDX" in request.param else "sev_guest"
            return FakeTsm(provider, opaque, table=TABLE).root
        if not REAL.exists():
            pytest.skip(f"{REAL} is not there: this is no guest of TDX or SEV-SNP")
        if not os.access(REAL, os.W_OK):
            pytest.skip(f"{REAL} is for root alone")
        return REAL

    @contextmanager
    def entry(self, root: Directory) -> Iterator[Directory]:
        entry = root / f"s3ml-contract-{os.urandom(8).hex()}"
        entry.mkdir()
        try:
            yield entry
        finally:
            entry.rmdir()

    def test_the_provider_is_a_known_one(self, root: Directory) -> None:
        with self.entry(root) as entry:
            assert read(entry / "provider") in {b"tdx_guest\n", b"sev_guest\n"}

    def test_the_generation_counts_writes_and_no_reads(self, root: Directory) -> None:
        with self.entry(root) as entry:
            seen = [int(read(entry / "generation"))]
            for report_data in (OTHER, REPORT_DATA):
                write_whole(entry / "inblob", report_data)
                read(entry / "outblob")
                seen.append(int(read(entry / "generation")))
            assert seen == [seen[0], seen[0] + 1, seen[0] + 2]

    def test_a_report_carries_what_was_written_last(self, root: Directory) -> None:
        with self.entry(root) as entry:
            write_whole(entry / "inblob", OTHER)
            assert OTHER in read(entry / "outblob")
            write_whole(entry / "inblob", REPORT_DATA)
            report = read(entry / "outblob")
            assert REPORT_DATA in report
            assert OTHER not in report

    def test_without_inblob_there_is_no_report(self, root: Directory) -> None:
        with self.entry(root) as entry, pytest.raises(OSError, match="Invalid argument"):
            read(entry / "outblob")

    def test_more_than_64_bytes_are_not_taken(self, root: Directory) -> None:
        with self.entry(root) as entry:
            before = read(entry / "generation")
            with pytest.raises(OSError, match="File too large"):
                write_whole(entry / "inblob", bytes(65))
            assert read(entry / "generation") == before

    def test_an_entry_is_made_once(self, root: Directory) -> None:
        with self.entry(root) as entry, pytest.raises(FileExistsError):
            entry.mkdir()

    def test_an_entry_is_removed_once(self, root: Directory) -> None:
        with self.entry(root) as entry:
            assert entry.exists()
            assert (entry / "inblob").exists()
        assert not entry.exists()
        assert not (entry / "inblob").exists()
        with pytest.raises(FileNotFoundError):
            entry.rmdir()
        with pytest.raises(FileNotFoundError):
            read(entry / "generation")

    def test_attributes_have_one_direction(self, root: Directory) -> None:
        """Root may open what it may not read or write; configfs then refuses all the same."""
        with self.entry(root) as entry:
            with pytest.raises(PermissionError):
                read(entry / "inblob")
            with pytest.raises(PermissionError):
                write_whole(entry / "outblob", REPORT_DATA)

    def test_what_belongs_to_sev_snp_is_there_with_it_alone(self, root: Directory) -> None:
        with self.entry(root) as entry:
            is_snp = read(entry / "provider") == b"sev_guest\n"
            there = [(entry / name).exists() for name in ("auxblob", "privlevel", "privlevel_floor")]
            assert there == [is_snp] * 3

    def test_a_level_below_the_floor_or_above_3_is_refused(self, root: Directory) -> None:
        with self.entry(root) as entry:
            if not (entry / "privlevel").exists():
                pytest.skip("only SEV-SNP has privilege levels")
            before = read(entry / "generation")
            with pytest.raises(OSError, match="Invalid argument"):
                write_whole(entry / "privlevel", b"4")
            assert read(entry / "generation") == before
            write_whole(entry / "privlevel", read(entry / "privlevel_floor").strip())
            assert int(read(entry / "generation")) == int(before) + 1


class TestRequest:
    """A report counts where our writes, and nobody else's, made it."""

    @pytest.fixture
    def tsm(self) -> FakeTsm:
        return FakeTsm("tdx_guest", opaque)

    @pytest.fixture
    def pauses(self) -> Pauses:
        return Pauses()

    @pytest.fixture
    def reports(self, tsm: FakeTsm, pauses: Pauses) -> TsmReports:
        return TsmReports(tsm.root, Provider.TDX, pause=pauses)

    def test_tdx(self, reports: TsmReports, tsm: FakeTsm, pauses: Pauses) -> None:
        assert reports.request(REPORT_DATA) == TsmReport(outblob=opaque(REPORT_DATA, 0))
        assert (tsm.entries, pauses.seconds) == ({}, [])

    @pytest.mark.parametrize("floor", [0, 2])
    def test_sev_snp_at_the_lowest_level_it_may_have(self, floor: int) -> None:
        tsm = FakeTsm("sev_guest", opaque, table=TABLE, floor=floor)
        written: list[str] = []
        tsm.interfere = lambda action, name, _: written.append(name) if action == "write" else None
        report = TsmReports(tsm.root, Provider.SEV_SNP).request(REPORT_DATA)
        assert report == TsmReport(outblob=opaque(REPORT_DATA, floor), auxblob=TABLE)
        assert written == ["inblob", "privlevel"]
        assert tsm.entries == {}

    @pytest.mark.parametrize("size", [0, 63, 65])
    def test_report_data_of_another_length_makes_no_entry(
        self, reports: TsmReports, tsm: FakeTsm, size: int
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"expected 64 bytes, got {size}"):
            reports.request(bytes(size))
        assert tsm.names == []

    @pytest.mark.parametrize(("action", "name"), [("read", "outblob"), ("write", "inblob")])
    def test_another_writer_is_noticed(
        self, reports: TsmReports, tsm: FakeTsm, pauses: Pauses, action: str, name: str
    ) -> None:
        """Another one writes into the first two entries, right before what we do to them."""

        def interfere(acted: str, attribute: str, entry: FakeEntry) -> None:
            if (acted, attribute) == (action, name) and len(tsm.names) < 3:
                entry.inblob = OTHER
                entry.advance("inblob")

        tsm.interfere = interfere
        assert REPORT_DATA in reports.request(REPORT_DATA).outblob
        assert len(set(tsm.names)) == 3
        assert pauses.seconds == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]

    def test_a_writer_that_never_ends_is_unavailable(self, reports: TsmReports, tsm: FakeTsm) -> None:
        def interfere(action: str, name: str, entry: FakeEntry) -> None:
            if (action, name) == ("read", "outblob"):
                entry.advance("inblob")

        tsm.interfere = interfere
        with pytest.raises(UnavailableError, match="in 5 attempts, the last: generation: expected 1, got 2"):
            reports.request(REPORT_DATA)
        assert len(tsm.names) == ATTEMPTS
        assert tsm.entries == {}

    def test_a_refused_inblob_is_noticed(self, reports: TsmReports, tsm: FakeTsm) -> None:
        """The kernel tells nobody: the write is done when the file is closed."""

        def interfere(action: str, name: str, _entry: FakeEntry) -> None:
            if (action, name) == ("write", "inblob") and len(tsm.names) == 1:
                raise failure(errno.EBUSY, ("inblob",))

        tsm.interfere = interfere
        assert REPORT_DATA in reports.request(REPORT_DATA).outblob
        assert len(tsm.names) == 2

    @pytest.mark.parametrize(
        ("done", "number"),
        [
            (("mkdir", ""), errno.EINTR),
            (("read", "outblob"), errno.EBUSY),
            (("read", "outblob"), errno.EAGAIN),
            (("read", "outblob"), errno.ETIMEDOUT),
        ],
    )
    def test_what_passes_is_tried_again(
        self, reports: TsmReports, tsm: FakeTsm, pauses: Pauses, done: tuple[str, str], number: int
    ) -> None:
        remaining = [number] * 4

        def interfere(action: str, name: str, _entry: FakeEntry) -> None:
            if (action, name) == done and remaining:
                raise failure(remaining.pop(), ("outblob",))

        tsm.interfere = interfere
        assert REPORT_DATA in reports.request(REPORT_DATA).outblob
        assert pauses.seconds == [FIRST_PAUSE_S * 2**power for power in range(4)]
        assert tsm.entries == {}

    def test_a_busy_kernel_is_unavailable_in_the_end(self, tsm: FakeTsm, reports: TsmReports) -> None:
        def interfere(action: str, _name: str, _entry: FakeEntry) -> None:
            if action == "mkdir":
                raise failure(errno.EBUSY, ())

        tsm.interfere = interfere
        with pytest.raises(UnavailableError, match="in 5 attempts, the last: Device or resource busy"):
            reports.request(REPORT_DATA)

    def test_a_taken_name_is_not_ours_to_remove(
        self, tsm: FakeTsm, reports: TsmReports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = iter(["taken", "taken", "free"])
        monkeypatch.setattr("s3ml.attestation.generate.tsm.secrets.token_hex", lambda _size: next(names))
        (tsm.root / "s3ml-taken").mkdir()
        reports.request(REPORT_DATA)
        assert list(tsm.entries) == ["s3ml-taken"]

    def test_what_does_not_pass_is_unavailable_at_once(
        self, reports: TsmReports, tsm: FakeTsm, pauses: Pauses
    ) -> None:
        def interfere(action: str, name: str, _entry: FakeEntry) -> None:
            if (action, name) == ("read", "outblob"):
                raise failure(errno.EIO, ("outblob",))

        tsm.interfere = interfere
        with pytest.raises(UnavailableError, match="no report: Input/output error"):
            reports.request(REPORT_DATA)
        assert (tsm.entries, pauses.seconds) == ({}, [])

    def test_the_entry_is_removed_whatever_happens(self, reports: TsmReports, tsm: FakeTsm) -> None:
        class InterruptError(BaseException):
            """Like a KeyboardInterrupt, without ending the test run."""

        def interfere(action: str, name: str, _entry: FakeEntry) -> None:
            if (action, name) == ("read", "outblob"):
                raise InterruptError

        tsm.interfere = interfere
        with pytest.raises(InterruptError):
            reports.request(REPORT_DATA)
        assert (len(tsm.names), tsm.entries) == (1, {})

    def test_a_removal_is_repeated(self, reports: TsmReports, tsm: FakeTsm) -> None:
        remaining = [errno.EINTR, errno.EBUSY]

        def interfere(action: str, _name: str, _entry: FakeEntry) -> None:
            if action == "rmdir" and remaining:
                raise failure(remaining.pop(), ())

        tsm.interfere = interfere
        reports.request(REPORT_DATA)
        assert tsm.entries == {}

    def test_a_removal_that_fails_costs_no_report(self, reports: TsmReports, tsm: FakeTsm) -> None:
        def interfere(action: str, _name: str, _entry: FakeEntry) -> None:
            if action == "rmdir":
                raise failure(errno.EBUSY, ())

        tsm.interfere = interfere
        assert REPORT_DATA in reports.request(REPORT_DATA).outblob
        assert list(tsm.entries) == tsm.names

    def test_names_are_unpredictable(self, reports: TsmReports, tsm: FakeTsm) -> None:
        for _ in range(3):
            reports.request(REPORT_DATA)
        assert len(set(tsm.names)) == 3
        assert all(len(name) == len("s3ml-") + 32 for name in tsm.names)

    def test_threads_do_not_mix_their_reports(self, tsm: FakeTsm, reports: TsmReports) -> None:
        barrier = threading.Barrier(4)

        def request(number: int) -> bool:
            barrier.wait()
            wanted = [hashlib.sha512(bytes([number, turn])).digest() for turn in range(8)]
            return all(report_data in reports.request(report_data).outblob for report_data in wanted)

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(request, range(4))) == [True] * 4
        assert (len(set(tsm.names)), tsm.entries) == (32, {})

    def test_another_provider_is_refused(self, reports: TsmReports, tsm: FakeTsm) -> None:
        tsm.provider = "sev_guest"
        with pytest.raises(ConfigurationError, match="provider: expected tdx_guest, got b'sev_guest'"):
            reports.request(REPORT_DATA)
        assert tsm.entries == {}

    @pytest.mark.parametrize(
        ("size", "told"), [(0, "the last: an empty report"), (32769, "outblob: expected at most 32768 bytes")]
    )
    def test_a_report_of_no_size(self, reports: TsmReports, tsm: FakeTsm, size: int, told: str) -> None:
        tsm.reporting = lambda _inblob, _privlevel: bytes(size)
        with pytest.raises(UnavailableError, match=told):
            reports.request(REPORT_DATA)

    def test_a_table_too_large(self) -> None:
        tsm = FakeTsm("sev_guest", opaque, table=bytes(32769))
        with pytest.raises(UnavailableError, match="auxblob: expected at most 32768 bytes"):
            TsmReports(tsm.root, Provider.SEV_SNP).request(REPORT_DATA)

    def test_without_the_file_system_it_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="no report: No such file"):
            TsmReports(tmp_path / "absent", Provider.TDX).request(REPORT_DATA)

    @pytest.mark.parametrize("text", [b"-1\n", b"\n", b"1" * 21, b"1 2", "\u0663".encode()])
    def test_a_generation_that_is_no_number(self, reports: TsmReports, tsm: FakeTsm, text: bytes) -> None:
        tsm.texts["generation"] = text
        with pytest.raises(UnavailableError, match="generation: expected a number"):
            reports.request(REPORT_DATA)

    @pytest.mark.parametrize("text", [b"4\n", b"-1\n", b"\n", b"00\n"])
    def test_a_floor_that_is_no_level(self, text: bytes) -> None:
        tsm = FakeTsm("sev_guest", opaque)
        tsm.texts["privlevel_floor"] = text
        with pytest.raises(UnavailableError, match="privlevel_floor: expected 0 to 3"):
            TsmReports(tsm.root, Provider.SEV_SNP).request(REPORT_DATA)


class TestProvider:
    """Who makes the reports is asked of the kernel."""

    @pytest.mark.parametrize("provider", list(Provider))
    def test_known_ones(self, provider: Provider) -> None:
        tsm = FakeTsm(provider, opaque)
        assert find_provider(tsm.root) is provider
        assert tsm.entries == {}

    def test_another_one(self) -> None:
        tsm = FakeTsm("arm_cca_guest", opaque)
        with pytest.raises(ConfigurationError, match="tdx_guest or sev_guest, got 'arm_cca_guest'"):
            find_provider(tsm.root)
        assert tsm.entries == {}

    def test_none(self) -> None:
        with pytest.raises(ConfigurationError, match="no entry can be made: No such device or address"):
            find_provider(FakeTsm(None, opaque).root)
