"""Programs that people type: `curl`, and `mlserver infer` with a file of requests."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.oip.endpoint import DEADLINE_S, HEADER_LENGTH, Endpoint, infer_path
from conformance.oip.names import ADD_SUBTRACT, SCALE
from conformance.oip.programs import environment, executable
from conformance.oip.requests import A, B, add_subtract
from conformance.oip.tensors import tensor

Need = Callable[[str], str]
Curl = Callable[..., bytes]

pytestmark = [pytest.mark.integration]


@pytest.fixture(scope="session")
def curl(endpoint: Endpoint) -> Curl:
    """Run `curl` with a path and options; return what it prints."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("install curl with: apt-get install curl")

    def run(path: str, *options: str) -> bytes:
        done = subprocess.run(
            [program, "--silent", "--show-error", "--noproxy", "*", *options, endpoint.url + path],
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class TestCurl:
    """The commands of everybody's README."""

    def test_health(self, curl: Curl) -> None:
        assert (
            curl("/v2/health/ready", "--fail", "--output", "/dev/null", "--write-out", "%{http_code}")
            == b"200"
        )

    def test_metadata(self, curl: Curl, need: Need) -> None:
        assert json.loads(curl(f"/v2/models/{need(SCALE)}"))["name"] == SCALE

    def test_head_is_no_fault(self, curl: Curl) -> None:
        status = int(curl("/v2", "--head", "--output", "/dev/null", "--write-out", "%{http_code}"))
        assert status in {200, 405, 501}

    @pytest.mark.parametrize("options", [(), ("--header", "Content-Type: application/json")])
    def test_inference(self, curl: Curl, need: Need, options: tuple[str, ...]) -> None:
        """Without a header, `--data` says that it is a form."""
        printed = curl(infer_path(need(ADD_SUBTRACT)), "--data", json.dumps(add_subtract()), *options)
        outputs = {entry["name"]: entry["data"] for entry in json.loads(printed)["outputs"]}
        assert np.ravel(outputs["sum"]).tolist() == (A.array + B.array).ravel().tolist()

    def test_binary_data_from_a_file(self, curl: Curl, need: Need, tmp_path: Path) -> None:
        document = json.dumps({"inputs": [A.in_binary(), B.in_binary()]}).encode()
        (tmp_path / "body").write_bytes(document + A.raw + B.raw)
        fields = ("--header", f"{HEADER_LENGTH}: {len(document)}")
        printed = curl(infer_path(need(ADD_SUBTRACT)), "--data-binary", f"@{tmp_path / 'body'}", *fields)
        outputs = {entry["name"]: entry["data"] for entry in json.loads(printed)["outputs"]}
        assert np.ravel(outputs["difference"]).tolist() == (A.array - B.array).ravel().tolist()

    def test_a_big_file(self, curl: Curl, need: Need, tmp_path: Path) -> None:
        """Beyond a megabyte curl waits for `100 Continue` first."""
        rows = tensor("x", "FP32", np.ones((512, 600), np.float32))
        (tmp_path / "body").write_text(json.dumps({"inputs": [rows.in_json()]}))
        printed = curl(
            infer_path(need(SCALE), "1"),
            "--data-binary",
            f"@{tmp_path / 'body'}",
            "--header",
            "Expect: 100-continue",
        )
        (output,) = json.loads(printed)["outputs"]
        assert set(np.ravel(output["data"]).tolist()) == {2.0}

    def test_errors_are_read(self, curl: Curl) -> None:
        printed = curl("/v2/models/nobody", "--write-out", "\n%{http_code}")
        content, status = printed.rsplit(b"\n", 1)
        assert status == b"404"
        assert "nobody" in json.loads(content)["error"]


class TestMLServerInfer:
    """A file of requests, a line each, in JSON or in binary, several in one batch."""

    @pytest.mark.parametrize("options", [(), ("--binary-data",), ("--batch-size", "2")])
    def test_a_file(self, endpoint: Endpoint, need: Need, tmp_path: Path, options: tuple[str, ...]) -> None:
        need(SCALE)
        lines = [{"id": str(n), "inputs": [tensor("x", "FP32", [[n, n + 0.5]]).in_json()]} for n in range(5)]
        answers = self.infer(endpoint, SCALE, lines, tmp_path, *options)
        assert len(answers) == 5
        for answer in answers:
            index = answer["parameters"]["batch_index"]
            (output,) = answer["outputs"]
            data = np.array(output["data"], np.float32)
            row = np.array([index, index + 0.5], np.float32)
            assert any(np.array_equal(data.ravel(), row * np.float32(factor)) for factor in (2, 3))

    def test_errors_are_written_where_they_belong(
        self, endpoint: Endpoint, need: Need, tmp_path: Path
    ) -> None:
        wrong = {"inputs": [tensor("nothing", "FP32", [[1.0]]).in_json()]}
        answers = self.infer(endpoint, need(SCALE), [wrong], tmp_path, "--retries", "1")
        assert "nothing" in answers[0]["error"]["msg"]

    @staticmethod
    def infer(
        endpoint: Endpoint, model: str, lines: list[dict[str, Any]], folder: Path, *options: str
    ) -> list[dict[str, Any]]:
        given, written = folder / "requests.jsonl", folder / "answers.jsonl"
        given.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        program = [
            executable("triton", "mlserver"),
            "infer",
            "--url",
            endpoint.authority,
            "--model-name",
            model,
        ]
        places = ["--input-data-path", str(given), "--output-data-path", str(written)]
        done = subprocess.run(
            [*program, *places, "--workers", "2", *options],
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
            cwd=folder,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in written.read_text().splitlines()]
