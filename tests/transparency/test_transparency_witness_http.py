"""The real server, a real socket, the real client: statuses as C2SP has them, limits, liars."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError
from s3ml.transparency.cosignature import verified_cosignatures, with_cosignatures
from s3ml.transparency.witness import client as client_module
from s3ml.transparency.witness import server as server_module
from s3ml.transparency.witness.client import (
    REPLY_LIMIT_BYTES,
    WitnessClient,
    WitnessConflictError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from s3ml.transparency.witness.observing import EventLog
from tests.clocks import NOW, FakeClock
from tests.transparency.live_witness import SIGNER, Live, answering, configuration, reply, take_request
from tests.transparency.transparency_world import ORIGIN, OTHER_KEY, Branch

LOG = Branch()


def self_signed(address: str) -> bytes:
    """A certificate for an address, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "witness")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding) + secret


FORK = Branch("fork", since=2)


def ask(live: Live, old: int, size: int, branch: Branch = LOG) -> tuple[str, ...]:
    return live.client.add_checkpoint(old_size=old, proof=branch.proof(old, size), note=branch.note(size))


class TestCosigning:
    def test_the_lines_hold(self, live: Live) -> None:
        note = with_cosignatures(LOG.note(3), ask(live, 0, 3), [SIGNER.public])
        assert verified_cosignatures(note, [SIGNER.public]) == {SIGNER.public.name: NOW}

    def test_it_goes_on_from_what_it_knows(self, live: Live) -> None:
        for old, size in ((0, 3), (3, 3), (3, 8), (8, 9)):
            assert ask(live, old, size)

    def test_the_newest_is_served_to_monitors(self, live: Live) -> None:
        path = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
        assert live.raw("GET", path)[0] == 404
        lines = ask(live, 0, 3)
        status, headers, body = live.raw("GET", path)
        assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert body.decode() == LOG.note(3) + lines[0] + "\n"

    def test_racing_requests_never_get_two_heads_of_a_size(self, live: Live) -> None:
        won: list[Branch] = []

        def race(branch: Branch) -> None:
            try:
                live.client.add_checkpoint(old_size=0, proof=(), note=branch.note(4))
            except WitnessConflictError:
                return
            won.append(branch)

        threads = [threading.Thread(target=race, args=(branch,)) for branch in (LOG, FORK) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(won) == 1


class TestRefusing:
    """Each refusal has its status, and its error has the remedy."""

    def test_a_conflict_tells_the_known_size(self, live: Live) -> None:
        ask(live, 0, 3)
        with pytest.raises(WitnessConflictError) as conflict:
            ask(live, 0, 8)
        assert conflict.value.known_size == 3
        assert isinstance(conflict.value, UnavailableError)
        status, headers, body = live.raw("POST", "/add-checkpoint", LOG.request(2, 8))
        assert (status, headers["content-type"], body) == (409, "text/x.tlog.size", b"3\n")

    @pytest.mark.parametrize(
        ("status", "request_"),
        [
            (400, (8, 3, LOG)),
            (403, (3, 8, Branch(key=OTHER_KEY))),
            (404, (3, 8, Branch(origin="elsewhere"))),
            (422, (3, 8, FORK)),
        ],
    )
    def test_a_refusal_is_no_matter_of_waiting(
        self, live: Live, status: int, request_: tuple[int, int, Branch]
    ) -> None:
        ask(live, 0, 3)
        with pytest.raises(WitnessRefusedError) as refused:
            ask(live, *request_)
        assert refused.value.status == status
        assert isinstance(refused.value, UntrustedPeerError)
        assert live.told[-1]["status"] == status

    def test_a_malformed_body(self, live: Live) -> None:
        status, headers, body = live.raw("POST", "/add-checkpoint", b"nonsense")
        assert (status, headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert body.startswith(b"request: ")

    @pytest.mark.parametrize("length", ["65537", "9" * 40, "-1", "x"])
    def test_a_large_body_is_refused_unread(self, live: Live, length: str) -> None:
        with socket.create_connection(("127.0.0.1", live.port), timeout=120) as connection:
            connection.sendall(
                f"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\n\r\n".encode()
            )
            assert connection.recv(1000).split()[1] in {b"413", b"400"}

    def test_a_large_body_in_chunks(self, live: Live) -> None:
        with socket.create_connection(("127.0.0.1", live.port), timeout=120) as connection:
            connection.sendall(
                b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n"
                b"10001\r\n" + b"x" * 65537 + b"\r\n0\r\n\r\n"
            )
            assert connection.recv(1000).split()[1] == b"413"

    def test_a_slow_body(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "BODY_TIMEOUT_S", 0.05)
        with socket.create_connection(("127.0.0.1", live.port), timeout=120) as connection:
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 5\r\n\r\nol")
            assert connection.recv(1000).split()[1] == b"408"

    def test_a_body_that_breaks_off(self, live: Live) -> None:
        with socket.create_connection(("127.0.0.1", live.port), timeout=120) as connection:
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 5\r\n\r\nol")
        assert ask(live, 0, 3)

    @pytest.mark.parametrize("limit", ["READERS", "WAITING"])
    def test_a_flood(self, live: Live, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
        monkeypatch.setattr(server_module, limit, 0)
        with pytest.raises(WitnessUnavailableError, match="503"):
            ask(live, 0, 3)

    def test_other_methods_and_paths(self, live: Live) -> None:
        assert live.raw("GET", "/add-checkpoint")[0] == 405
        assert live.raw("POST", "/nowhere")[0] == 404


class TestState:
    def test_a_state_in_doubt_cosigns_nothing(self, live: Live) -> None:
        ask(live, 0, 3)
        assert live.raw("GET", "/livez")[0] == 200
        live.store._connection.execute("DROP TABLE latest")
        for _ in range(2):
            with pytest.raises(WitnessUnavailableError, match="503"):
                ask(live, 3, 5)
        assert live.raw("GET", "/livez")[0] == 503
        assert live.raw("GET", "/status")[0] == 503
        assert live.raw("GET", f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint")[0] == 404
        assert b"s3ml_witness_state_usable 0" in live.raw("GET", "/metrics")[2]
        assert live.told[-1]["event"] == "unavailable"


class TestObserving:
    def test_status(self, live: Live) -> None:
        ask(live, 0, 3)
        live.config.write_text(configuration("other", str(OTHER_KEY.public)))
        found = json.loads(live.raw("GET", "/status")[2])
        assert (found["name"], found["key"]) == (SIGNER.public.name, str(SIGNER.public))
        assert [(log["origin"], log["is_watched"], log["size"]) for log in found["logs"]] == [
            ("other", True, 0),
            (ORIGIN, False, 3),
        ]

    def test_status_of_a_peer_that_sends_too_much(self, monkeypatch: pytest.MonkeyPatch, live: Live) -> None:
        monkeypatch.setattr(client_module, "STATUS_LIMIT_BYTES", 10)
        with pytest.raises(WitnessUnavailableError, match="at most 10 bytes"):
            live.client.status()
        monkeypatch.undo()
        assert json.loads(live.client.status())["name"] == SIGNER.public.name

    def test_metrics_count_every_verdict(self, live: Live) -> None:
        ask(live, 0, 3)
        live.raw("POST", "/add-checkpoint", b"nonsense")
        text = live.raw("GET", "/metrics")[2].decode()
        assert 's3ml_witness_checkpoints_total{verdict="cosign"} 1' in text
        assert 's3ml_witness_checkpoints_total{verdict="malformed"} 1' in text
        assert "s3ml_witness_logs 1" in text

    def test_a_changed_configuration_is_noticed_while_nobody_asks(self, live: Live) -> None:
        live.config.write_text("version = 1\n")
        deadline_s = time.monotonic() + 120
        while not any(line["event"] == "configured" for line in live.told):
            assert time.monotonic() < deadline_s
            threading.Event().wait(0.02)
        with pytest.raises(WitnessRefusedError, match="404"):
            ask(live, 0, 3)

    def test_a_log_line_has_only_known_fields(self) -> None:
        lines: list[str] = []
        events = EventLog(lines.append, FakeClock())
        events.emit("x", detail="d" * 1000, size=3)
        assert json.loads(lines[0]) == {
            "time": NOW.isoformat(),
            "event": "x",
            "detail": "d" * 500,
            "size": 3,
        }
        with pytest.raises(ValueError, match="body"):
            events.emit("x", body="b")


class TestClient:
    """Whatever a witness sends, the client ends in time and with one of three errors."""

    @staticmethod
    def ask(url: str, timeout_s: float = 120.0) -> tuple[str, ...]:
        client = WitnessClient(url + "/", timeout_s=timeout_s)
        try:
            return client.add_checkpoint(old_size=0, proof=(), note=LOG.note(3))
        finally:
            client.close()

    @staticmethod
    def fixed(data: bytes) -> Callable[[socket.socket], None]:
        def answer(connection: socket.socket) -> None:
            take_request(connection)
            connection.sendall(data)

        return answer

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\n",
            b"<html>\n",
            "— name AAAAAAAA".encode(),
            "— name AAAAAAAA\nnonsense\n".encode(),
            b"\xff\n",
            b"x" * (REPLY_LIMIT_BYTES + 1),
        ],
    )
    def test_no_signature_lines(self, body: bytes) -> None:
        with answering(self.fixed(reply(200, body))) as url, pytest.raises(WitnessUnavailableError):
            self.ask(url)

    def test_several_lines(self) -> None:
        body = "— a AAAAAAAA\n— b AAAAAAAA\n".encode()
        with answering(self.fixed(reply(200, body))) as url:
            assert self.ask(url) == ("— a AAAAAAAA", "— b AAAAAAAA")

    @pytest.mark.parametrize("body", [b"", b"x\n", b"03\n", b"3\n\n", b"\xff", b"9" * 30])
    def test_a_conflict_about_no_size(self, body: bytes) -> None:
        with answering(self.fixed(reply(409, body))) as url, pytest.raises(WitnessUnavailableError):
            self.ask(url)

    @pytest.mark.parametrize("status", [201, 301, 401, 429, 500, 503])
    def test_another_status(self, status: int) -> None:
        answer, says = self.fixed(reply(status, b"no\n")), f"answered {status}: no"
        with answering(answer) as url, pytest.raises(WitnessUnavailableError, match=says):
            self.ask(url)

    def test_no_answer(self) -> None:
        hang_up, says = socket.socket.close, "does not answer"
        with answering(hang_up) as url, pytest.raises(WitnessUnavailableError, match=says):
            self.ask(url)

    @pytest.mark.parametrize(
        "start", [b"", b"HTTP/1.1 200 X\r\n", b"HTTP/1.1 200 X\r\ncontent-length: 9999\r\n\r\n"]
    )
    def test_a_reply_that_drips(self, start: bytes) -> None:
        """Every byte is in time, the whole is not."""

        has_ended = threading.Event()

        def drip(connection: socket.socket) -> None:
            take_request(connection)
            connection.sendall(start)
            for _ in range(6000):
                connection.sendall(b"a")
                threading.Event().wait(0.02)
            has_ended.set()

        with answering(drip) as url, pytest.raises(WitnessUnavailableError):
            self.ask(url, timeout_s=0.3)
        assert not has_ended.is_set()

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "witness.example",
            "ftp://w",
            "http://",
            "http://u@w",
            "http://w/?x",
            "http://w/#x",
            "http://w:x",
            "http://[::1",
        ],
    )
    def test_no_address(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="address"):
            WitnessClient(url)

    def test_a_secure_address_is_spoken_to_securely(self) -> None:
        """Nothing of the request leaves before the witness has shown a certificate."""
        seen: list[bytes] = []

        def answer(connection: socket.socket) -> None:
            seen.append(connection.recv(3))

        with answering(answer) as url, pytest.raises(WitnessUnavailableError):
            self.ask(url.replace("http:", "https:"))
        assert seen
        assert all(data[:2] == b"\x16\x03" for data in seen)

    def test_a_reply_without_a_length_that_is_cut_off(self) -> None:
        """What arrived before the deadline looks whole, and is not taken for it."""

        def answer(connection: socket.socket) -> None:
            take_request(connection)
            connection.sendall("HTTP/1.1 200 X\r\n\r\n— a AAAAAAAA\n".encode())
            connection.recv(1)

        with answering(answer) as url, pytest.raises(WitnessUnavailableError, match="not in time"):
            self.ask(url, timeout_s=0.3)

    def test_a_certificate_of_a_known_authority(
        self, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate = tmp_path / "certificate.pem"
        certificate.write_bytes(self_signed("127.0.0.1"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        def answer(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secure:
                self.fixed(reply(200, "— a AAAAAAAA\n".encode()))(secure)

        with answering(answer) as url:
            assert self.ask(url.replace("http:", "https:")) == ("— a AAAAAAAA",)

    def test_a_path_is_kept(self, live: Live) -> None:
        client = WitnessClient(live.url + "/some/where/")
        with pytest.raises(WitnessUnavailableError, match=r"/some/where: answered 404"):
            client.status()
        client.close()


def test_what_is_served_is_in_one_folder(live: Live, tmp_path: Path) -> None:
    assert {path.name for path in (tmp_path / "state").iterdir()} <= {
        "witness.sqlite3",
        "witness.sqlite3-wal",
    }
