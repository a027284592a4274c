"""SGX under Gramine: over a verified fake, whose contract the real thing is held to where it is at hand."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from s3ml.attestation import Attester, Evidence, EvidenceMalformedError, Tee, parse_evidence, verify_evidence
from s3ml.attestation.generate import Directory, GramineAttester
from s3ml.attestation.generate.directory import read_bounded, write_whole
from s3ml.attestation.simulated.quote import render_quote
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.attestation_world import NOW, REPORT_DATA, World, honest_report
from tests.attestation.fakes.gramine import FakeGramine
from tests.attestation.fakes.gramine_files import GramineFiles
from tests.attestation.fakes.sources import FakeCollateral

REAL = Path("/dev/attestation")
OTHER = hashlib.sha512(b"another request").digest()
SEALING_KEY = bytes(range(16))
# HKDF-SHA256 (RFC 5869) without salt, of that, info b"S3ML Gramine sealing key v1\0".
PINNED = "6e719c42688e93bb5cb525a2c7c395d29fc2ee76b62f7ce8d171447eed95aa4f"


def quoting(world: World) -> Callable[[bytes], bytes]:
    return lambda report_data: render_quote(world.pki, honest_report(report_data=report_data))


@pytest.fixture
def gramine(world: World) -> FakeGramine:
    return FakeGramine(quoting(world))


@pytest.fixture
def attester(gramine: FakeGramine, world: World) -> GramineAttester:
    return GramineAttester(gramine.root, FakeCollateral(collateral=world.collateral))


def check_accepted(evidence: Evidence, world: World, report_data: bytes) -> None:
    """What came out is the real thing in everything but its root."""
    simulated = msgspec.structs.replace(evidence, tee=Tee.SIMULATED)
    verified = verify_evidence(simulated, world.policy, report_data=report_data, now=NOW)
    assert verified.is_simulated


class TestContract:
    """What Gramine documents, shown of the fake, and of the real thing in an enclave."""

    @pytest.fixture(params=["fake", "real"])
    def root(self, request: pytest.FixtureRequest, gramine: FakeGramine) -> Directory:
        if request.param == "fake":
            return gramine.root
        if not REAL.exists():
            pytest.skip(f"{REAL} is not there: this is no SGX enclave under Gramine")
        return REAL

    def test_the_type_has_no_line_end(self, root: Directory) -> None:
        assert read_bounded(root / "attestation_type", limit_bytes=16, what="type") == b"dcap"

    def test_a_quote_carries_what_was_written_last(self, root: Directory) -> None:
        for report_data in (OTHER, REPORT_DATA):
            write_whole(root / "user_report_data", report_data)
        quote = read_bounded(root / "quote", limit_bytes=16384, what="quote")
        assert quote[:2] == b"\x03\x00"
        assert quote[368:432] == REPORT_DATA

    def test_a_shorter_value_is_padded_with_zeros(self, root: Directory) -> None:
        write_whole(root / "user_report_data", REPORT_DATA)
        write_whole(root / "user_report_data", b"short")
        quote = read_bounded(root / "quote", limit_bytes=16384, what="quote")
        assert quote[368:432] == b"short".ljust(64, b"\0")

    def test_the_quote_is_made_when_it_is_opened(self, root: Directory) -> None:
        write_whole(root / "user_report_data", REPORT_DATA)
        with (root / "quote").open("rb") as stream:
            write_whole(root / "user_report_data", OTHER)
            assert stream.read()[368:432] == REPORT_DATA

    def test_the_sealing_key_has_16_bytes_and_stays(self, root: Directory) -> None:
        keys = {read_bounded(root / "keys" / "_sgx_mrenclave", limit_bytes=64, what="key") for _ in range(2)}
        assert [len(key) for key in keys] == [16]

    def test_the_sealing_key_cannot_be_replaced(self, root: Directory) -> None:
        with pytest.raises(PermissionError):
            write_whole(root / "keys" / "_sgx_mrenclave", bytes(16))

    def test_there_are_no_other_files(self, root: Directory) -> None:
        assert root.exists()
        assert not (root / "absent").exists()
        with pytest.raises(FileNotFoundError):
            read_bounded(root / "absent", limit_bytes=1, what="absent")


class TestFake:
    """What only the fake can be asked."""

    def test_without_attestation_there_is_no_quote(self, world: World) -> None:
        root = FakeGramine(quoting(world), attestation_type=b"none").root
        with pytest.raises(FileNotFoundError):
            read_bounded(root / "quote", limit_bytes=1, what="quote")

    def test_nothing_can_be_made_or_removed(self, gramine: FakeGramine) -> None:
        with pytest.raises(PermissionError):
            (gramine.root / "new").mkdir()
        with pytest.raises(PermissionError):
            (gramine.root / "keys").rmdir()
        with pytest.raises(FileNotFoundError):
            write_whole(gramine.root / "new", b"")

    def test_report_data_cannot_be_read_back(self, gramine: FakeGramine) -> None:
        write_whole(gramine.root / "user_report_data", REPORT_DATA)
        assert read_bounded(gramine.root / "user_report_data", limit_bytes=64, what="data") == b""


class TestQuote:
    """Evidence is this enclave's, over exactly the report data that was asked for."""

    def test_the_verifier_accepts_it(self, attester: Attester, world: World) -> None:
        evidence = attester.quote(REPORT_DATA)
        assert (attester.tee, evidence.tee, evidence.simulates) == (Tee.SGX, Tee.SGX, None)
        assert evidence.collateral == world.collateral
        check_accepted(evidence, world, REPORT_DATA)

    @pytest.mark.parametrize("size", [0, 63, 65])
    def test_report_data_of_another_length_is_not_even_written(
        self, attester: Attester, gramine: FakeGramine, size: int
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"expected 64 bytes, got {size}"):
            attester.quote(bytes(size))
        assert gramine.report_data == bytes(64)

    def test_another_thread_waits_for_its_turn(self, gramine: FakeGramine, world: World) -> None:
        """Two attesters, because the pseudo-files belong to the process and not to one of them."""
        source = FakeCollateral(collateral=world.collateral)
        first, second = (GramineAttester(gramine.root, source) for _ in range(2))
        late: list[bytes] = []
        rival = threading.Thread(target=lambda: late.append(second.quote(OTHER).quote[368:432]))
        honest = gramine.quoting

        def interrupted(report_data: bytes) -> bytes:
            if report_data == REPORT_DATA:
                rival.start()
                rival.join(timeout=0.05)  # long enough to write, were it let in
                assert gramine.report_data == REPORT_DATA
            return honest(report_data)

        gramine.quoting = interrupted
        assert first.quote(REPORT_DATA).quote[368:432] == REPORT_DATA
        rival.join()
        assert late == [OTHER]

    def test_report_data_of_other_code_is_noticed(self, attester: Attester, gramine: FakeGramine) -> None:
        honest = gramine.quoting
        gramine.quoting = lambda _report_data: honest(OTHER)
        with pytest.raises(UnavailableError, match="expected the report data just written"):
            attester.quote(REPORT_DATA)

    def test_a_failure_to_quote_is_unavailable(self, attester: Attester, gramine: FakeGramine) -> None:
        def fail(_report_data: bytes) -> bytes:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

        gramine.quoting = fail
        with pytest.raises(UnavailableError, match=r"no quote: Permission denied: .* \(AESM\)"):
            attester.quote(REPORT_DATA)

    def test_a_quote_too_large_is_refused(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "attestation_type").write_bytes(b"dcap")
        (tmp_path / "quote").write_bytes(bytes(16385))
        attester = GramineAttester(tmp_path, FakeCollateral(collateral=world.collateral))
        with pytest.raises(UnavailableError, match="Gramine: quote: expected at most 16384 bytes"):
            attester.quote(REPORT_DATA)

    def test_without_collateral_there_is_no_evidence(self, gramine: FakeGramine) -> None:
        attester = GramineAttester(gramine.root, FakeCollateral())
        with pytest.raises(UnavailableError, match="no endpoint answers"):
            attester.quote(REPORT_DATA)

    def test_a_quote_that_nobody_can_read_is_unavailable(self, gramine: FakeGramine) -> None:
        source = FakeCollateral(failure=EvidenceMalformedError("quote: version: expected 3, got 9"))
        with pytest.raises(UnavailableError, match=r"^Gramine: quote: version: expected 3, got 9$"):
            GramineAttester(gramine.root, source).quote(REPORT_DATA)


class TestAttestationType:
    """Only DCAP is attested by."""

    @pytest.mark.parametrize("kind", [b"none", b"epid", b"", b"dcap\n", b"dcap2"])
    def test_another_is_refused(self, world: World, kind: bytes) -> None:
        with pytest.raises(ConfigurationError, match=r"expected b'dcap', got .* in the manifest"):
            GramineAttester(FakeGramine(quoting(world), attestation_type=kind).root, FakeCollateral())

    def test_none_at_all_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="attestation_type cannot be read: No such file"):
            GramineAttester(tmp_path, FakeCollateral())


class TestSealingKey:
    """32 bytes that follow from SGX's 16 and from nothing else."""

    def test_it_is_pinned(self, attester: Attester) -> None:
        key = attester.sealing_key()
        assert key.reveal().hex() == PINNED
        assert PINNED not in repr(key)

    def test_another_enclave_has_another(self, attester: Attester, gramine: FakeGramine) -> None:
        first = attester.sealing_key()
        gramine.sealing_key = bytes(16)
        assert attester.sealing_key() != first

    @pytest.mark.parametrize(
        ("key", "told"), [(b"", "expected 16 bytes, got 0"), (bytes(17), "expected at most 16 bytes")]
    )
    def test_one_of_another_length_is_refused(
        self, attester: Attester, gramine: FakeGramine, key: bytes, told: str
    ) -> None:
        gramine.sealing_key = key
        with pytest.raises(UnavailableError, match=f"sealing key: {told}"):
            attester.sealing_key()

    def test_without_the_file_it_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "attestation_type").write_bytes(b"dcap")
        with pytest.raises(UnavailableError, match="sealing key: No such file"):
            GramineAttester(tmp_path, FakeCollateral()).sealing_key()


_PROCESS = """
import hashlib, sys
from pathlib import Path
import msgspec
from s3ml.attestation import Collateral, encode_evidence
from s3ml.attestation.generate import GramineAttester

class Source:
    def for_quote(self, quote):
        return msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Collateral)

attester = GramineAttester(Path(sys.argv[1]), Source())
for word in sys.argv[3:]:
    print(encode_evidence(attester.quote(bytes.fromhex(word))).decode())
print(hashlib.sha256(attester.sealing_key().reveal()).hexdigest())
"""


class TestProcess:
    """The same through real files, from another process."""

    @pytest.mark.integration
    def test_evidence_of_another_process(self, world: World, tmp_path: Path) -> None:
        collateral = tmp_path / "collateral.json"
        collateral.write_bytes(msgspec.json.encode(world.collateral))
        folder = tmp_path / "attestation"
        folder.mkdir()
        with GramineFiles(folder, quoting(world), sealing_key=SEALING_KEY):
            done = subprocess.run(
                [sys.executable, "-c", _PROCESS, folder, collateral, REPORT_DATA.hex(), OTHER.hex()],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        first, second, key = done.stdout.splitlines()
        check_accepted(parse_evidence(first.encode()), world, REPORT_DATA)
        check_accepted(parse_evidence(second.encode()), world, OTHER)
        assert key == hashlib.sha256(bytes.fromhex(PINNED)).hexdigest()
