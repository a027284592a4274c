"""The README's quick start, word for word, and what goes wrong around it, with real processes."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.apps.conftest import BIN, DEADLINE_S, Desk, commands, snippet
from tests.ports import refusing_port

GUIDE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.integration


def post(url: str, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=DEADLINE_S)
    try:
        connection.request("POST", path, body, {"content-type": content_type})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def curl(desk: Desk, rest: str, url: str, *words: str) -> Any:
    """Do what `curl URL` and `curl URL -d @FILE` do; return the JSON of a good answer."""
    path = urlsplit(url).path
    body = (desk.folder / words[1].removeprefix("@")).read_bytes() if words else None
    address = urlsplit(rest)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body)
        reply = connection.getresponse()
        assert reply.status == 200
        return json.loads(reply.read())


class TestQuickStart:
    """Every command of the README works, in the README's order."""

    def test_a_client_verifies_infers_and_looks_around(self, desk: Desk) -> None:
        verified, inferred, status, listed = desk.follow_readme("client")
        assert "SIMULATED" in verified.err
        assert "NOT FORK-PROTECTED" in verified.err
        assert verified.out.count("✓") >= 8
        assert inferred.out.splitlines()[0].startswith("label")
        assert len(inferred.out.splitlines()) == 6
        assert "serving" in status.out
        assert "tumours" in listed.out

    def test_the_python_snippet_runs(self, desk: Desk) -> None:
        code = snippet("python", "python").replace("http://127.0.0.1:8080", desk.gateway)
        done = desk.run(sys.executable, "-W", "error", "-c", code)
        assert done.status == 0, done.err
        assert done.out.startswith("[")

    def test_plain_clients_reach_it_by_the_proxy(self, desk: Desk) -> None:
        """What the README gives `curl` is asked here without it: not every machine has one."""
        ((program, *words),) = commands("proxy")
        command = [program, *words, "--listen", "127.0.0.1:0", "--no-grpc", "--json"]
        environment = {"PATH": str(BIN), "S3ML_GATEWAY": desk.gateway, "HOME": str(desk.folder)}
        with subprocess.Popen(
            command,
            cwd=desk.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as proxy:
            assert proxy.stdout is not None
            told = json.loads(proxy.stdout.readline())
            described, inferred = (curl(desk, told["rest"], *words) for _, *words in commands("curl"))
            proxy.send_signal(signal.SIGTERM)
            assert proxy.wait(DEADLINE_S) == 0
        assert told["is_simulated"]
        assert described["inputs"][0]["shape"] == [-1, 30]
        assert {output["name"]: output["shape"] for output in inferred["outputs"]} == {
            "label": [5],
            "probabilities": [5, 2],
        }

    @pytest.mark.parametrize(
        "example", ["infer", "infer_async", "infer_many", "infer_pandas", "verify_service"]
    )
    def test_the_examples_run(self, desk: Desk, example: str) -> None:
        done = desk.run(sys.executable, f"examples/{example}.py", desk.gateway)
        assert done.status == 0, done.err
        assert done.out.strip()

    def test_the_guide_of_the_client_runs(self, desk: Desk) -> None:
        """All of it but the credentials, which this service does not ask for."""
        blocks = re.findall(r"<!-- client: ([a-z]+) -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
        code = "\n".join(code for name, code in blocks if name != "credentials")
        done = desk.run(
            sys.executable, "-W", "error", "-c", code.replace("http://127.0.0.1:8080", desk.gateway)
        )
        assert done.status == 0, done.err
        assert "case-17" in done.out

    def test_infer_writes_arrays(self, desk: Desk) -> None:
        rows = np.loadtxt(desk.folder / "rows.csv", delimiter=",", skiprows=1, dtype=np.float32)
        np.save(desk.folder / "rows.npy", rows)
        done = desk.s3ml("infer", "tumours", "--input", "rows.npy", "-o", "out.npz")
        assert done.status == 0, done.err
        with np.load(desk.folder / "out.npz") as outputs:
            assert outputs["label"].shape == (5,)
            assert outputs["probabilities"].shape == (5, 2)

    def test_infer_takes_a_protocol_request_and_prints_json(self, desk: Desk) -> None:
        tensor = {"name": "x", "shape": [1, 30], "datatype": "FP32", "data": [0.5] * 30}
        (desk.folder / "one.json").write_text(json.dumps({"inputs": [tensor]}))
        done = desk.s3ml("infer", "tumours", "--input", "one.json", "--json")
        assert done.status == 0, done.err
        assert json.loads(done.out)["outputs"]["label"]["shape"] == [1]

    @pytest.mark.parametrize("words", [("verify", "tumours"), ("status",), ("service", "list")])
    def test_json_is_one_object_on_one_line(self, desk: Desk, words: tuple[str, ...]) -> None:
        done = desk.s3ml(*words, "--json")
        assert done.status == 0, done.err
        assert isinstance(json.loads(done.out), dict)
        assert done.out.count("\n") == 1


class TestEveryOwner:
    """Each owner can verify what was begun, at any time."""

    def test_init_again_gives_the_same_trust(self, desk: Desk) -> None:
        done = desk.s3ml(
            *("deployment", "init", "proposal.json", "--allow-simulated"),
            *("--accept", "tumours=model-server.toml", "-o", "mine.toml"),
        )
        assert done.status == 0, done.err
        assert (desk.folder / "mine.toml").read_bytes() == (desk.folder / "trust.toml").read_bytes()


class TestBadInput:
    """One clear line, the right status, nothing half-written."""

    def test_an_unknown_service(self, desk: Desk) -> None:
        done = desk.s3ml("infer", "nope", "--input", "rows.csv")
        assert done.status == 2
        assert "nope" in done.line

    def test_a_wrong_shape(self, desk: Desk) -> None:
        (desk.folder / "short.csv").write_text("1,2,3\n")
        done = desk.s3ml("infer", "tumours", "--input", "short.csv")
        assert done.status == 2
        assert "30" in done.line

    def test_a_wrong_input_name(self, desk: Desk) -> None:
        done = desk.s3ml("infer", "tumours", "--input", "rows.csv", "--tensor", "y")
        assert done.status == 2
        assert "not y" in done.line

    def test_a_wrong_datatype(self, desk: Desk) -> None:
        tensor = {"name": "x", "shape": [1, 30], "datatype": "INT64", "data": [1] * 30}
        (desk.folder / "wrong.json").write_text(json.dumps({"inputs": [tensor]}))
        done = desk.s3ml("infer", "tumours", "--input", "wrong.json")
        assert done.status == 2
        assert "FP32" in done.line

    def test_a_missing_input_file(self, desk: Desk) -> None:
        done = desk.s3ml("infer", "tumours", "--input", "absent.csv")
        assert done.status == 2
        assert "No such file" in done.line

    def test_a_missing_trust_file(self, desk: Desk) -> None:
        done = desk.s3ml("verify", "tumours", "--trust", "absent.toml")
        assert done.status == 2
        assert "absent.toml" in done.line

    def test_a_trust_file_of_another_deployment(self, desk: Desk) -> None:
        ours = (desk.folder / "trust.toml").read_text()
        deployment = next(line for line in ours.splitlines() if line.startswith("deployment"))
        (desk.folder / "other.toml").write_text(ours.replace(deployment, f'deployment = "{"0" * 64}"'))
        done = desk.s3ml("verify", "tumours", "--trust", "other.toml")
        assert done.status == 3
        assert "0" * 64 in done.line

    def test_a_policy_narrower_than_the_service_s(self, desk: Desk) -> None:
        """The client's own pin decides: here it names another measurement than the owners signed."""
        ours = (desk.folder / "trust.toml").read_text()
        head, tail = ours.split("[services.tumours.policy]")
        measured = tail.split("measurements = [")[1].split('"')[1]
        (desk.folder / "narrow.toml").write_text(
            head + "[services.tumours.policy]" + tail.replace(measured, "1" * 64)
        )
        done = desk.s3ml("verify", "tumours", "--trust", "narrow.toml")
        assert done.status == 3
        assert measured in done.line

    def test_a_policy_with_an_unknown_field(self, desk: Desk) -> None:
        policy = (desk.folder / "model-server.toml").read_text()
        (desk.folder / "typo.toml").write_text(policy + "\ntcb_status = 1\n")
        done = desk.s3ml("policy", "sign", "typo.toml", "--key", "alice.key")
        assert done.status == 2
        assert "tcb_status" in done.line

    def test_a_key_of_a_stranger(self, desk: Desk) -> None:
        done = desk.s3ml("policy", "sign", "model-server.toml", "--key", "model-owner.key")
        assert done.status == 2
        assert "none of the deployment owners" in done.line

    def test_a_second_deployment(self, desk: Desk) -> None:
        root = str(desk.state / "platform" / "root.pem")
        simulated = ("--allow-simulated", "--simulation-root", root)
        owner = ("--threshold", "1", "--owner", "bob=bob.pub", "-o", "second.json")
        assert desk.s3ml("deployment", "propose", *owner, *simulated).status == 0
        assert desk.s3ml("deployment", "sign", "second.json", "--key", "bob.key").status == 0
        done = desk.s3ml("deployment", "init", "second.json", "--allow-simulated", "-o", "second.toml")
        assert done.status == 3
        assert "begun already" in done.line
        assert not (desk.folder / "second.toml").exists()

    def test_a_trust_file_is_not_replaced(self, desk: Desk) -> None:
        done = desk.s3ml("deployment", "init", "proposal.json", "--allow-simulated")
        assert done.status == 2
        assert "exists already" in done.line

    def test_a_model_that_is_none(self, desk: Desk) -> None:
        (desk.folder / "bad.onnx").write_bytes(b"not a model")
        before = sorted(path.name for path in desk.folder.iterdir())
        done = desk.s3ml(
            *("model", "pack", "bad.onnx", "--service", "tumours", "--policy", "model-server"),
            *("--name", "bad", "--store", "store", "--key", "model-owner.key"),
        )
        assert done.status == 2
        assert "onnx" in done.line.lower()
        assert not list((desk.folder / "store").rglob("*.s3ml"))
        assert sorted(path.name for path in desk.folder.iterdir() if path.name != "store") == before

    def test_a_version_that_was_packed(self, desk: Desk) -> None:
        done = desk.s3ml(
            *("model", "pack", "tumours.onnx", "--service", "tumours", "--policy", "model-server"),
            *("--store", str(desk.state / "bundles"), "--key", "model-owner.key"),
        )
        assert done.status == 2
        assert "exists already" in done.line

    def test_a_replayed_change_changes_nothing(self, desk: Desk) -> None:
        """The message that made a policy, sent again, is answered as the first time: it stands already."""
        first = desk.s3ml(
            *("policy", "sign", "model-server.toml", "--name", "replayed", "-o", "replayed.json"),
            *("--key", "alice.key"),
        )
        assert first.status == 0, first.err
        send = ("policy", "sign", "replayed.json", "--key", "bob.key")
        assert desk.s3ml(*send).status == 0
        before = json.loads(desk.s3ml("status", "--json").out)["resources"]
        assert before["policies/replayed"] == 1
        done = desk.s3ml(*send)
        assert done.status == 0, done.err
        assert json.loads(desk.s3ml("status", "--json").out)["resources"] == before

    def test_nobody_answers(self, desk: Desk) -> None:
        with refusing_port() as port:
            done = desk.s3ml("status", gateway=f"http://127.0.0.1:{port}")
        assert done.status == 4
        assert str(port) in done.line

    def test_a_port_in_use(self, desk: Desk) -> None:
        port = urlsplit(desk.gateway).port
        done = desk.s3ml("up", "tumours", "--port", str(port))
        assert done.status == 2
        assert "in use" in done.line

    def test_a_garbled_sealed_request(self, desk: Desk) -> None:
        status, body = post(desk.gateway, "/services/tumours/ohttp", bytes(200), "message/ohttp-req")
        assert status == 400
        assert b"ohttp-key" in body

    def test_a_request_larger_than_the_limit(self, desk: Desk) -> None:
        status, _ = post(desk.gateway, "/services/tumours/ohttp", bytes(17 << 20), "message/ohttp-req")
        assert status == 413

    def test_the_gateway_shows_no_other_path(self, desk: Desk) -> None:
        for path in (
            "/v2/models/tumours/infer",
            "/keyservice/v1/release",
            "/keyservice/v1/challenge",
            "/metrics",
        ):
            status, _ = post(desk.gateway, path, b"{}", "application/json")
            assert status == 404, path


class TestUpdate:
    """A new version of a model is served soon after the owners have signed it."""

    def test_a_second_version_is_served(self, desk: Desk) -> None:
        done = desk.s3ml(
            *("model", "pack", "tumours.onnx", "--service", "tumours", "--policy", "model-server"),
            *("--version", "2", "--store", str(desk.state / "bundles"), "--key", "model-owner.key"),
        )
        assert done.status == 0, done.err
        done = desk.s3ml(
            *("service", "sign", "tumours", "--policy", "model-server", "--model-owner", "model-owner.pub"),
            *("--model", "tumours-1.grant.json", "--model", "tumours-2.grant.json"),
            *("--key", "alice.key", "--key", "carol.key"),
        )
        assert done.status == 0, done.err
        served = desk.until_served("tumours", "--input", "rows.csv", "--version", "2", "--timeout", "60")
        assert served.out.startswith("label")


class TestHealing:
    """What dies is started again, and clients go on by themselves."""

    def test_a_killed_key_service_begins_new_epochs(self, desk: Desk) -> None:
        before = json.loads(desk.s3ml("status", "--json").out)["log_size"]
        pid = pid_of(desk, "key-service")
        os.kill(pid, signal.SIGKILL)
        done = desk.s3ml("infer", "tumours", "--input", "rows.csv", "--timeout", "60")
        assert done.status == 0, done.err
        after = json.loads(desk.s3ml("status", "--json").out)["log_size"]
        assert after > before


class TestInterruption:
    """Ctrl-C at any moment ends everything and leaves nothing."""

    @pytest.mark.parametrize("after_line", ["simulated platform", "key service", "started replica"])
    def test_up_leaves_nothing(self, after_line: str) -> None:
        with tempfile.TemporaryDirectory(prefix="s3ml-int-") as folder:
            up = subprocess.Popen(
                [BIN / "s3ml", "up", "a", "--replicas", "1"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "TMPDIR": folder},
            )
            try:
                assert up.stderr is not None
                seen = ""
                while after_line not in seen:
                    line = up.stderr.readline()
                    assert line, seen
                    seen += line
                up.send_signal(signal.SIGINT)
                rest = up.stderr.read()
                assert up.wait(timeout=DEADLINE_S) == 0, rest
            finally:
                up.kill()
                up.wait()
                if up.stderr is not None:
                    up.stderr.close()
            assert "Traceback" not in seen + rest
            assert "nothing is left running" in rest
            assert list(Path(folder).iterdir()) == []
            until_s = time.monotonic() + DEADLINE_S
            while left := processes_with(folder):  # what was killed may take a moment to be gone
                assert time.monotonic() < until_s, left


def processes_with(text: str) -> list[str]:
    """Return the command lines and environments of all processes that name `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                content = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in content:
                found.append(f"{entry.name}: {content[:200]!r}")
    return found


def pid_of(desk: Desk, role: str) -> int:
    """Return the process id of the enclave that logs into `<role>.log`, by the database it was given."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{desk.state}/{role}/".encode() in environ and b"S3ML_DATABASE" in environ:
                return int(entry.name)
    raise AssertionError(f"no process of the {role}")
