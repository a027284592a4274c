"""Client programs in virtual environments of their own: a line of JSON in, a line of JSON out.

The clients pin what S3ML does not, and one another's opposite; `scripts/oip-clients` installs them.
"""

import base64
import contextlib
import json
import os
import selectors
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.oip.endpoint import DEADLINE_S, Endpoint
from conformance.oip.tensors import Tensor, from_raw

REPOSITORY = Path(__file__).parents[2]
VENVS = Path(os.environ.get("S3ML_OIP_CLIENTS", REPOSITORY / ".venv-clients"))
INSTALL = "install the clients with: bash scripts/oip-clients"
_GRACE_S = 10.0

# Each program's virtual environment and arguments; `URL`, `HOST` and `GRPC` stand for the endpoint's.
_PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tritonclient http": ("triton", ("triton_client", "http", "sync", "HOST")),
    "tritonclient http aio": ("triton", ("triton_client", "http", "aio", "HOST")),
    "tritonclient grpc": ("triton", ("triton_client", "grpc", "sync", "GRPC")),
    "tritonclient grpc aio": ("triton", ("triton_client", "grpc", "aio", "GRPC")),
    "kserve rest": ("kserve", ("kserve_client", "rest", "URL")),
    "kserve grpc": ("kserve", ("kserve_client", "grpc", "GRPC")),
    "grpc calls": ("triton", ("grpc_calls", "GRPC")),
}
CLIENT_NAMES = tuple(name for name in _PROGRAMS if name != "grpc calls")


class ClientError(Exception):
    """What a client raised.

    Args:
        status: An HTTP status or gRPC code, as the client tells it.
        message: Its words.
    """

    def __init__(self, status: str | None, message: str, kind: str) -> None:
        super().__init__(f"{kind}: {status}: {message}")
        self.status = status
        self.message = message
        self.kind = kind

    @property
    def code(self) -> str | None:
        """The status without what a library writes around it."""
        return None if self.status is None else self.status.removeprefix("StatusCode.")


@dataclass(slots=True)
class Program:
    """A client program that runs."""

    name: str
    process: subprocess.Popen[bytes]

    def call(self, call: str, **arguments: object) -> Any:
        """Return what the client gave.

        Raises:
            ClientError: the client raised.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self._line())
        if "error" in answer:
            error = answer["error"]
            raise ClientError(error["status"], error["message"], error["kind"])
        return answer["result"]

    def infer(self, model: str, inputs: Sequence[Tensor], **arguments: object) -> "Inferred":
        """Infer, and return what the client read."""
        result = self.call(
            "infer", model=model, inputs=[_described(tensor) for tensor in inputs], **arguments
        )
        outputs = {entry["name"]: _read(entry) for entry in result["outputs"]}
        return Inferred(
            model=result["model_name"], version=result["model_version"], id=result["id"], outputs=outputs
        )

    def close(self) -> None:
        """End it; its standard input ends, and it with it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(2 * DEADLINE_S), f"{self.name}: no answer"
        line = self.process.stdout.readline()
        assert line, f"{self.name}: ended with {self.process.wait()}"
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What a client read from an answer."""

    model: str
    version: str | None
    id: str | None
    outputs: dict[str, Tensor]


def program(name: str, endpoint: Endpoint) -> Program:
    """Start a client program; skips the test where it is not installed, or needs gRPC that is not there."""
    venv, (module, *rest) = _PROGRAMS[name]
    if "GRPC" in rest and endpoint.grpc is None:
        pytest.skip("the endpoint has no gRPC: name it with --grpc-endpoint")
    places = {"URL": endpoint.url, "HOST": endpoint.url.split("://", 1)[1], "GRPC": endpoint.grpc or ""}
    arguments = [places.get(word, word) for word in rest]
    process = subprocess.Popen(
        [executable(venv, "python"), "-m", f"conformance.oip.clients.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    return Program(name=name, process=process)


def executable(venv: str, name: str) -> str:
    """Return the path of a program of a virtual environment; skips the test where it is not installed."""
    path = VENVS / venv / "bin" / name
    if not path.exists():
        pytest.skip(INSTALL)
    return str(path)


def environment() -> dict[str, str]:
    """Return the environment of a client: no proxy, no settings of anybody's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "NO_PROXY": "*",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "ignore",
        "GRPC_VERBOSITY": "NONE",
    }


def _described(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.array.shape),
        "raw": base64.b64encode(tensor.raw).decode(),
    }


def _read(entry: dict[str, Any]) -> Tensor:
    raw = base64.b64decode(entry["raw"])
    return from_raw(entry["name"], entry["datatype"], tuple(entry["shape"]), raw)
