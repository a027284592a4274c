"""The platform's messages: limits first, unknown fields reject, and every failure has its remedy."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.attestation import Attester, EvidenceMalformedError, Tee
from s3ml.attestation.simulated.admin import PlatformAdmin
from s3ml.attestation.simulated.attester import SimulatedAttester
from s3ml.attestation.simulated.launch import ROLES, Role, launch_script
from s3ml.attestation.simulated.protocol import (
    ErrorReply,
    LaunchRequest,
    ListReply,
    Message,
    PlatformRefusedError,
    QuoteReply,
    QuoteRequest,
    Reply,
    SealingKeyReply,
    error_reply,
    frame,
    parse_enclave_request,
    parse_host_request,
)
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError

FIELDS = ("ask", "role", "settings", "log_path", "instance", "grace_s", "foreign")
VALUES: tuple[object, ...] = (
    "launch",
    "stop",
    "list",
    "key-service",
    "/log",
    1,
    -1.0,
    {},
    {"S3ML_A": "b"},
    None,
)


@contextlib.contextmanager
def platform_answering(path: Path, reply: bytes) -> Iterator[str]:
    """Be a platform that answers one request with `reply`, whatever it was."""

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(reply)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield str(path)
        finally:
            thread.join()


class TestParsing:
    """Anything that comes over a socket is accepted, or rejected with a documented error."""

    @given(st.binary(max_size=300))
    def test_of_any_bytes(self, body: bytes) -> None:
        for parse in (parse_enclave_request, parse_host_request):
            with contextlib.suppress(ConfigurationError):
                parse(body)

    @given(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(VALUES)))
    def test_of_any_fields(self, fields: dict[str, object]) -> None:
        body = msgspec.json.encode(fields)
        for parse in (parse_enclave_request, parse_host_request):
            with contextlib.suppress(ConfigurationError):
                parse(body)
                assert "foreign" not in fields

    @pytest.mark.parametrize("field", ["measurement", "pid", "uid", "role"])
    def test_a_claimed_identity_is_an_unknown_field(self, field: str) -> None:
        body = msgspec.json.encode({"ask": "sealing-key", field: "x"})
        with pytest.raises(ConfigurationError, match="unknown field"):
            parse_enclave_request(body)

    def test_an_enclave_process_cannot_ask_the_host_s_questions(self) -> None:
        with pytest.raises(ConfigurationError, match="Invalid value 'list'"):
            parse_enclave_request(b'{"ask":"list"}')

    @pytest.mark.parametrize(
        "body",
        [b'{"ask":"stop","instance":"a","grace_s":601}', b'{"ask":"stop","instance":"a","grace_s":-1}'],
    )
    def test_a_grace_out_of_bounds_is_refused(self, body: bytes) -> None:
        with pytest.raises(ConfigurationError, match="grace_s"):
            parse_host_request(body)

    def test_a_relative_log_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="log_path"):
            parse_host_request(b'{"ask":"launch","role":"key-service","settings":{},"log_path":"log"}')

    def test_a_launch_is_read(self) -> None:
        request = LaunchRequest(role="key-service", settings={"S3ML_A": "b"}, log_path="/l")
        assert parse_host_request(frame(request)[4:]) == request


class TestAnswers:
    """The caller learns which remedy helps."""

    @pytest.mark.parametrize(
        ("error", "remedy"),
        [
            (UntrustedPeerError("x"), "distrust"),
            (UnavailableError("x"), "retry"),
            (ConfigurationError("x"), "fix-input"),
        ],
    )
    def test_an_error_travels_with_its_remedy(self, error: S3MLError, remedy: str) -> None:
        reply = error_reply(error)
        assert (reply.remedy, reply.error, reply.platform) == (remedy, "x", "SIMULATED")

    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (ErrorReply(remedy="distrust", error="no"), PlatformRefusedError),
            (ErrorReply(remedy="retry", error="no"), UnavailableError),
            (ErrorReply(remedy="fix-input", error="no"), ConfigurationError),
            (QuoteReply(evidence=b""), UnavailableError),
        ],
    )
    def test_an_error_arrives_as_its_kind(self, tmp_path: Path, reply: Reply, error: type[S3MLError]) -> None:
        with platform_answering(tmp_path / "s", frame(reply)) as path, pytest.raises(error):
            SimulatedAttester(path).sealing_key()

    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            b"\x00\x00\x00\x05{",
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x02{}",
            b"\x00\x00\x00\x01\xff",
            frame(SealingKeyReply(key=bytes(31))),
        ],
    )
    def test_anything_else_is_no_platform(self, tmp_path: Path, reply: bytes) -> None:
        with (
            platform_answering(tmp_path / "s", reply) as path,
            pytest.raises(UnavailableError, match="simulated platform at"),
        ):
            SimulatedAttester(path).sealing_key()

    def test_a_platform_that_is_not_there_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="simulated platform at"):
            PlatformAdmin(tmp_path / "admin.sock").list()


class TestAttester:
    """The enclave's side: evidence and a sealing key, over the socket."""

    def test_is_an_attester_of_the_simulated_kind(self) -> None:
        attester: Attester = SimulatedAttester("/s")
        assert attester.tee is Tee.SIMULATED

    @pytest.mark.parametrize("size", [0, 63, 65])
    def test_report_data_of_another_length_is_not_sent(self, tmp_path: Path, size: int) -> None:
        with pytest.raises(ConfigurationError, match=f"expected 64 bytes, got {size}"):
            SimulatedAttester(tmp_path / "nobody").quote(bytes(size))

    def test_malformed_evidence_is_refused(self, tmp_path: Path) -> None:
        with (
            platform_answering(tmp_path / "s", frame(QuoteReply(evidence=b"{}"))) as path,
            pytest.raises(EvidenceMalformedError),
        ):
            SimulatedAttester(path).quote(bytes(64))

    def test_a_sealing_key_is_secret(self, tmp_path: Path) -> None:
        reply = SealingKeyReply(key=b"k" * 32)
        with platform_answering(tmp_path / "s", frame(reply)) as path:
            key = SimulatedAttester(path).sealing_key()
        assert key.reveal() == b"k" * 32
        assert "kk" not in repr(reply) + repr(key)

    def test_an_instance_s_status_says_simulated(self) -> None:
        messages: list[Message] = [
            ListReply(instances=()),
            QuoteReply(evidence=b""),
            ErrorReply(remedy="retry", error=""),
        ]
        assert all(b'"platform":"SIMULATED"' in frame(message) for message in messages)
        assert b"SIMULATED" not in frame(QuoteRequest(report_data=bytes(64)))


class TestLaunchScript:
    """The script that enters a role is measured, and says what it is."""

    @pytest.mark.parametrize("role", list(ROLES))
    def test_is_python_that_enters_its_role_alone(self, role: Role) -> None:
        script = launch_script(role)
        compile(script, "launch.py", "exec")
        assert f"s3ml.apps.processes.{ROLES[role].module}".encode() in script
        assert b"SIMULATED" in script
        assert sum(f"processes.{plan.module} ".encode() in script for plan in ROLES.values()) == 1
