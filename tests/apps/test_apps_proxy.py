"""`s3ml proxy` on a real cluster: plain requests in, sealed requests out, and how it begins and ends."""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from s3ml.client.proxy.protocol import oip_pb2
from tests.apps.conftest import BIN, Desk
from tests.client.proxy_process import RunningProxy, running_proxy
from tests.ports import refusing_port

pytestmark = pytest.mark.integration

DEADLINE_S = 300
ROWS = np.arange(60, dtype=np.float32).reshape(2, 30)
INFER = "/v2/models/tumours/infer"
REQUEST = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 30], "data": ROWS.tolist()}]}


@pytest.fixture(scope="module")
def proxy(desk: Desk) -> Iterator[RunningProxy]:
    with running_proxy(desk.folder / "trust.toml", desk.gateway) as running:
        yield running


def ask(
    running: RunningProxy, method: str, path: str, content: bytes | None = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Return the status, the document and the fields of an answer."""
    parts = urlsplit(running.rest)
    with contextlib.closing(
        http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE_S)
    ) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=content, headers=named)
        reply = connection.getresponse()
        body = reply.read()
        fields = {name.lower(): value for name, value in reply.getheaders()}
    is_json = fields.get("content-type") == "application/json"
    return reply.status, json.loads(body) if is_json else body, fields


def call(running: RunningProxy, rpc_name: str, /, **fields: Any) -> Any:
    """Return the answer to a call over gRPC."""
    request = getattr(oip_pb2, f"{rpc_name}Request")(**fields)
    with grpc.insecure_channel(running.grpc) as channel:
        method = channel.unary_unary(
            f"/inference.GRPCInferenceService/{rpc_name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(oip_pb2, f"{rpc_name}Response").FromString,
        )
        return method(request, timeout=DEADLINE_S)


def environment(desk: Desk) -> dict[str, str]:
    return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(desk.folder), "COLUMNS": "200"}


class TestRest:
    def test_json_in_json_out(self, proxy: RunningProxy) -> None:
        status, document, fields = ask(proxy, "POST", INFER, json.dumps(REQUEST).encode())
        assert status == 200
        assert document["model_name"] == "tumours"
        assert {output["name"] for output in document["outputs"]} == {"label", "probabilities"}
        assert fields["s3ml-replica"]

    def test_binary_in_binary_out(self, proxy: RunningProxy) -> None:
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 30], "parameters": {"binary_data_size": 240}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        status, content, fields = ask(
            proxy, "POST", INFER, head + ROWS.tobytes(), Inference_Header_Content_Length=str(len(head))
        )
        assert status == 200
        length = int(fields["inference-header-content-length"])
        assert json.loads(content[:length])["outputs"]
        assert len(content) > length

    def test_a_raw_request(self, proxy: RunningProxy) -> None:
        """The value 0 says that all of it is the model's one input."""
        status, content, _ = ask(proxy, "POST", INFER, ROWS[0].tobytes(), Inference_Header_Content_Length="0")
        assert status == 200
        assert b'"shape":[1' in content

    @pytest.mark.parametrize("path", ["/v2", "/v2/", "/services/tumours/v2"])
    def test_server_metadata(self, proxy: RunningProxy, path: str) -> None:
        status, document, _ = ask(proxy, "GET", path)
        assert (status, document["name"]) == (200, "s3ml")
        assert "binary_tensor_data" in document["extensions"]

    def test_health_and_metadata(self, proxy: RunningProxy) -> None:
        assert ask(proxy, "GET", "/v2/health/live")[:2] == (200, {"live": True})
        assert ask(proxy, "GET", "/v2/health/ready")[:2] == (200, {"ready": True})
        assert ask(proxy, "GET", "/v2/models/tumours/ready")[0] == 200
        status, document, _ = ask(proxy, "GET", "/v2/models/tumours/versions/1")
        assert (status, document["inputs"][0]["shape"]) == (200, [-1, 30])

    @pytest.mark.parametrize(
        ("method", "path", "content", "status"),
        [
            ("POST", INFER, b"{", 400),
            ("POST", INFER, b'{"inputs":[]}', 400),
            ("POST", "/v2/models/whale/infer", b"{}", 404),
            ("POST", "/v2/models/tumours/versions/9/infer", b"{}", 404),
            ("GET", "/v2/models/whale", None, 404),
            ("GET", "/v1/models/tumours", None, 404),
            ("GET", INFER, None, 405),
            ("POST", "/v2/repository/models/tumours/unload", b"", 403),
        ],
    )
    def test_refusals(
        self, proxy: RunningProxy, method: str, path: str, content: bytes | None, status: int
    ) -> None:
        got, document, _ = ask(proxy, method, path, content)
        assert got == status
        assert document["error"]

    def test_metrics(self, proxy: RunningProxy) -> None:
        assert ask(proxy, "GET", "/v2")[0] == 200
        text = ask(proxy, "GET", "/metrics")[1].decode()
        assert 's3ml_proxy_requests_total{outcome="answered",protocol="rest",service="tumours"}' in text

    def test_a_head_without_end(self, proxy: RunningProxy) -> None:
        parts = urlsplit(proxy.rest)
        with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_S) as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nx: ")
            with contextlib.suppress(ConnectionError):
                for _ in range(8):
                    connection.sendall(b"a" * 40_000)
            assert connection.recv(64).startswith(b"HTTP/1.1 431")


class TestRpc:
    def test_the_six_calls(self, proxy: RunningProxy) -> None:
        assert call(proxy, "ServerLive").live
        assert call(proxy, "ServerReady").ready
        assert call(proxy, "ModelReady", name="tumours").ready
        assert not call(proxy, "ModelReady", name="whale").ready
        assert call(proxy, "ServerMetadata").name == "s3ml"
        assert call(proxy, "ModelMetadata", name="tumours").inputs[0].datatype == "FP32"
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 30]}
        raw = call(
            proxy, "ModelInfer", model_name="tumours", inputs=[tensor], raw_input_contents=[ROWS.tobytes()]
        )
        contents = {"contents": {"fp32_contents": ROWS.ravel().tolist()}}
        typed = call(proxy, "ModelInfer", model_name="tumours", inputs=[tensor | contents])
        by_name = {output.name: output for output in typed.outputs}
        for output, blob in zip(raw.outputs, raw.raw_output_contents, strict=True):
            if output.name == "label":
                assert np.frombuffer(blob, "<i8").tolist() == list(by_name["label"].contents.int64_contents)

    def test_the_index(self, proxy: RunningProxy) -> None:
        entries = call(proxy, "RepositoryIndex").models
        assert {(entry.name, entry.state) for entry in entries} == {("tumours", "READY")}  # of each version

    def test_rest_and_grpc_agree(self, proxy: RunningProxy) -> None:
        _, document, _ = ask(proxy, "POST", INFER, json.dumps(REQUEST).encode())
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 30]}
        contents = {"contents": {"fp32_contents": ROWS.ravel().tolist()}}
        message = call(proxy, "ModelInfer", model_name="tumours", inputs=[tensor | contents])
        outputs = {output["name"]: output["data"] for output in document["outputs"]}
        for output in message.outputs:
            if output.name == "label":
                assert list(output.contents.int64_contents) == outputs["label"]
            else:
                got = np.array(output.contents.fp32_contents, np.float32)
                assert got.tolist() == np.array(outputs[output.name], np.float32).ravel().tolist()


class TestStart:
    """It says where it listens and what protects it, or one line about what is wrong."""

    def test_what_it_says(self, proxy: RunningProxy, desk: Desk) -> None:
        assert proxy.said["services"] == {"tumours": ["tumours"]}
        assert proxy.said["gateway"] == desk.gateway
        assert proxy.said["is_simulated"] is True
        assert "SIMULATED" in proxy.errors.read_text()
        assert "NOT FORK-PROTECTED" in proxy.errors.read_text()

    def test_for_people(self, desk: Desk) -> None:
        words = [
            str(BIN / "s3ml"),
            "proxy",
            "--listen",
            "127.0.0.1:0",
            "--no-grpc",
            "--gateway",
            desk.gateway,
        ]
        with subprocess.Popen(
            words,
            cwd=desk.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(desk),
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE_S)
        text = "".join(lines)
        assert "http://127.0.0.1:" in text
        assert "not listened for" in text
        assert "service tumours" in text
        assert process.returncode == 0
        assert errors.splitlines()[-1] == "stopped"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--listen", "0.0.0.0:0"), "expected loopback addresses"),
            (("--grpc", "0.0.0.0:0"), "expected loopback addresses"),
            (("--listen", "192.0.2.1:0"), "expected loopback addresses"),
            (("--listen", "example.org:80"), "expected loopback addresses"),
            (("--listen", "8000"), "--listen: expected HOST:PORT, got '8000'"),
            (("--listen", "127.0.0.1:65536"), "--listen: expected HOST:PORT"),
            (("--grpc", "127.0.0.1:x"), "--grpc: expected HOST:PORT"),
            (("--trust", "none.toml"), "none.toml"),
            (("--service", "Tumours"), "service: expected 1 to 63"),
            (("--token-file", "a", "--caller-key", "b"), "expected --token-file or --caller-key, got both"),
            (("--gateway", "ftp://x"), "gateway URL: expected http"),
            (("--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--service", "whale"), "whale"),
        ],
    )
    def test_wrong_input_is_one_line(self, desk: Desk, words: tuple[str, ...], said: str) -> None:
        ended = desk.s3ml("proxy", *words)
        assert ended.status == 2
        assert said in ended.line

    @pytest.mark.parametrize("option", ["--listen", "--grpc"])
    def test_a_taken_port_is_one_line(self, desk: Desk, option: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            free = {"--listen": "127.0.0.1:0", "--grpc": "127.0.0.1:0"} | {option: address}
            ended = desk.s3ml("proxy", *(word for pair in free.items() for word in pair))
        assert ended.status == 2
        assert f"{option}: cannot listen on {address}" in ended.line

    def test_a_gateway_that_is_not_there(self, desk: Desk) -> None:
        words = ("--listen", "127.0.0.1:0", "--no-grpc", "--timeout", "1")
        with refusing_port() as port:
            ended = desk.s3ml("proxy", *words, gateway=f"http://127.0.0.1:{port}")
        assert ended.status == 4
        assert "refuses connections" in ended.line

    def test_a_deployment_that_is_another(self, desk: Desk, tmp_path: Path) -> None:
        text = (desk.folder / "trust.toml").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("deployment")]
        trust = tmp_path / "trust.toml"
        trust.write_text(text.replace(line, f'deployment = "{"ab" * 32}"'))
        ended = desk.s3ml("proxy", "--trust", str(trust), "--listen", "127.0.0.1:0", "--no-grpc")
        assert ended.status == 3
        assert "deployment" in ended.line

    def test_a_missing_extra_is_one_line(self, desk: Desk) -> None:
        hidden = "import sys; sys.modules['grpc'] = None; "
        code = hidden + "from s3ml.apps.cli.root import run; sys.exit(run(['proxy']))"
        done = subprocess.run(
            [str(BIN / "python"), "-c", code],
            capture_output=True,
            text=True,
            env=environment(desk),
            check=False,
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "pip install 's3ml[proxy]'" in line


class TestRemote:
    def test_it_listens_elsewhere_when_told(self, desk: Desk) -> None:
        words = ("--allow-remote", "--listen", "0.0.0.0:0")
        with running_proxy(desk.folder / "trust.toml", desk.gateway, *words) as running:
            assert "PLAINTEXT" in running.errors.read_text()
            assert running.rest.startswith("http://0.0.0.0:")


class TestEnd:
    def test_what_is_under_way_is_finished(self, desk: Desk) -> None:
        """A request whose body is still on its way at SIGTERM is answered."""
        content = json.dumps(REQUEST).encode()
        head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
        with running_proxy(desk.folder / "trust.toml", desk.gateway) as running:
            parts = urlsplit(running.rest)
            with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_S) as connection:
                connection.sendall(head.encode() + content[:10])
                # The answer to another request shows that the first one has begun.
                assert ask(running, "GET", "/v2/health/live")[0] == 200
                os.kill(running.process.pid, signal.SIGTERM)
                connection.sendall(content[10:])
                assert connection.recv(64).startswith(b"HTTP/1.1 200")
            assert running.process.wait(timeout=DEADLINE_S) == 0


class _Recorder(ThreadingHTTPServer):
    """A gateway that records everything and answers nothing useful."""

    def __init__(self) -> None:
        recorder = self
        self.bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                recorder.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


class TestTrustThatFails:
    def test_a_gateway_that_lies_gets_nothing_but_the_question(self, desk: Desk) -> None:
        recorder = _Recorder()
        thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            gateway = f"http://127.0.0.1:{recorder.server_address[1]}"
            ended = desk.s3ml("proxy", "--listen", "127.0.0.1:0", "--no-grpc", gateway=gateway)
        finally:
            recorder.shutdown()
            thread.join()
            recorder.server_close()
        assert ended.status == 3
        asked = [json.loads(body) for body in recorder.bodies]
        assert asked
        assert all(set(question) <= {"service", "nonce", "known_size"} for question in asked)


class TestCallers:
    """Whose credentials are presented: the proxy's own, from a file that may be renewed."""

    def test_the_token_file_is_read_again(self, tmp_path: Path) -> None:
        from s3ml.apps.cli.credentials import renewed_credentials
        from s3ml.client import Token

        file = tmp_path / "token"
        parts = [base64.urlsafe_b64encode(text).rstrip(b"=").decode() for text in (b"a", b"b", b"c")]
        file.write_text(".".join(parts))
        credentials = renewed_credentials(file, None, command="proxy")
        file.write_text("new.new.new")
        assert callable(credentials)
        token = credentials()
        assert isinstance(token, Token)
        assert token.reveal() == "new.new.new"
