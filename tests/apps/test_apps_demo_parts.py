import socket
import threading
from pathlib import Path

import pytest

from s3ml.apps.demo.account import Account, Refusal, hex_excerpt
from s3ml.apps.demo.search import Secret, controls, search
from s3ml.apps.demo.tampering import change_a_byte, claim_measurement
from s3ml.apps.demo.wiretap import Wiretap
from tests.ports import refusing_port

SECRET = Secret(name="row", value=bytes(range(60, 84)))


class TestSearch:
    """A secret is found wherever it lies, in every form it may take."""

    @pytest.mark.parametrize("form", range(6))
    def test_each_form_is_found_in_a_file(self, tmp_path: Path, form: int) -> None:
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "file").write_bytes(b"\x00" * 5000 + SECRET.forms()[form] + b"tail")
        report = search([SECRET], folders=[tmp_path], blobs=())
        assert [(f.secret, Path(f.place).name) for f in report.findings] == [("row", "file")]

    def test_it_is_found_in_traffic(self) -> None:
        report = search([SECRET], folders=(), blobs=[("connection 1", b"x" + SECRET.value)])
        assert [finding.place for finding in report.findings] == ["connection 1"]

    def test_where_it_is_not_nothing_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(SECRET.value[:-1])
        (tmp_path / "empty").touch()
        report = search([SECRET], folders=[tmp_path], blobs=[("c", b"")])
        assert report.findings == ()
        assert report.places == 3

    def test_the_controls_hold(self) -> None:
        assert controls([SECRET])


class TestTampering:
    """The dishonest builds differ from the honest one as described, and in nothing else."""

    def test_one_byte_differs(self, tmp_path: Path) -> None:
        import s3ml

        package = change_a_byte(tmp_path)
        honest = Path(s3ml.__file__).parent
        differing = [
            path.relative_to(package)
            for path in package.rglob("*.py")
            if path.read_bytes() != (honest / path.relative_to(package)).read_bytes()
        ]
        assert differing == [Path("modelserver/__init__.py")]
        changed, original = (p / differing[0] for p in (package, honest))
        pairs = zip(changed.read_bytes(), original.read_bytes(), strict=True)
        assert sum(a != b for a, b in pairs) == 1

    def test_the_liar_still_compiles(self, tmp_path: Path) -> None:
        package = claim_measurement(tmp_path, "ab" * 32)
        code = (package / "attestation/simulated/attester.py").read_text()
        compile(code, "attester.py", "exec")
        assert "ab" * 32 in code


class TestWiretap:
    """The relay passes every byte on, and keeps it."""

    def test_it_records_both_ways(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def echo() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(connection.recv(100).upper())

            thread = threading.Thread(target=echo)
            thread.start()
            with Wiretap(*server.getsockname()) as tap:
                with socket.create_connection(("127.0.0.1", tap.port), timeout=120) as client:
                    client.sendall(b"hello")
                    assert client.recv(100) == b"HELLO"
                    assert client.recv(100) == b""
                thread.join(120)
                (capture,) = tap.captures
                assert (bytes(capture.sent), bytes(capture.received)) == (b"hello", b"HELLO")

    def test_a_dead_target_closes_the_connection(self) -> None:
        with (
            refusing_port() as port,
            Wiretap("127.0.0.1", port) as tap,
            socket.create_connection(("127.0.0.1", tap.port), timeout=120) as client,
        ):
            assert client.recv(10) == b""


def account(**changes: object) -> Account:
    refusal = Refusal(
        replica="r", claims="a" * 64, measured="a" * 64, expected="b" * 64, reason="refused", is_refused=True
    )
    values: dict[str, object] = {
        "requests": 10,
        "failed": 0,
        "agreement": 1.0,
        "accuracy": 0.97,
        "replica_killed": True,
        "replacement_served": 5,
        "replacement_ready_s": 1.0,
        "tampered_refused": 1,
        "refusals": (refusal,),
        "plaintext_found": 0,
        "search_controls_found": True,
        "searched_places": 3,
        "searched_bytes": 1000,
        "captured_bytes": 1000,
        "retries_gateway": 0,
        "retries_client": 0,
        "trust_refreshes": 0,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "duration_s": 3.0,
        "steps": {},
    }
    return Account(**(values | changes))  # type: ignore[arg-type]


class TestAccount:
    """The account holds only when every promise held."""

    def test_when_all_held_nothing_is_broken(self) -> None:
        assert account().broken == ()

    @pytest.mark.parametrize(
        "changes",
        [
            {"requests": 0},
            {"failed": 1},
            {"agreement": 0.999},
            {"replica_killed": False},
            {"replacement_served": 0},
            {"tampered_refused": 0},
            {"tampered_refused": 0, "refusals": ()},
            {"search_controls_found": False},
            {"plaintext_found": 1},
        ],
    )
    def test_each_broken_promise_is_named(self, changes: dict[str, object]) -> None:
        assert len(account(**changes).broken) == 1

    def test_its_json_is_one_line_with_the_promised_names(self) -> None:
        line = account().to_json()
        assert "\n" not in line
        for name in (
            "requests",
            "failed",
            "agreement",
            "replica_killed",
            "replacement_served",
            "p99_ms",
            "held",
        ):
            assert f'"{name}":' in line

    def test_the_excerpt_shows_offsets_and_text(self) -> None:
        lines = hex_excerpt(b"POST /x HTTP/1.1\r\nhost: y\r\n\r\nAB\x00" + bytes(40)).splitlines()
        assert lines[0] == "POST /x HTTP/1.1"
        assert lines[1].startswith("0000  41 42 00")
        assert lines[1].endswith("AB..............")


class TestRows:
    """Numbers from CSV files are read strictly."""

    def test_a_heading_is_skipped(self) -> None:
        from s3ml.apps.cli.input_files import rows_from_csv

        rows = rows_from_csv(Path("x.csv"), b"a,b\n1,2\n3,4.5\n")
        assert rows.tolist() == [[1, 2], [3, 4.5]]

    @pytest.mark.parametrize("data", [b"", b"a,b\n", b"1,2\n3\n", b"1,2\nx,4\n", b"\xff\xfe1"])
    def test_other_files_are_one_clear_line(self, data: bytes) -> None:
        from s3ml.apps.cli.input_files import rows_from_csv
        from s3ml.primitives.errors import ConfigurationError

        with pytest.raises(ConfigurationError, match=r"input x\.csv"):
            rows_from_csv(Path("x.csv"), data)
