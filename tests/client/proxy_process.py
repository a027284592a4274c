"""A real `s3ml proxy` on free ports, for whoever wants to talk to one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

S3ML = Path(sys.executable).parent / "s3ml"
DEADLINE_S = 300


@dataclass(frozen=True)
class RunningProxy:
    """Where it listens, and what it said.

    Args:
        rest: A URL, such as ``http://127.0.0.1:40001``.
        grpc: ``host:port``; empty with ``--no-grpc``.
        said: The JSON line that it printed.
        process: The process itself.
        errors: What it writes to standard error.
    """

    rest: str
    grpc: str
    said: dict[str, Any]
    process: "subprocess.Popen[str]"
    errors: Path


@contextlib.contextmanager
def running_proxy(
    trust: Path, gateway: str, *words: str, environment: dict[str, str] | None = None
) -> Iterator[RunningProxy]:
    """Run `s3ml proxy` on free ports of loopback as long as the block; it has to end well.

    Args:
        trust: The trust file.
        gateway: The gateway's URL.
        words: Further options.
        environment: Further variables.
    """
    with tempfile.TemporaryDirectory(prefix="s3ml-proxy-") as folder:
        errors = Path(folder) / "proxy.log"
        command = ["proxy", "--trust", str(trust), "--gateway", gateway, "--json"]
        free = ["--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
        with errors.open("w") as log:
            process = subprocess.Popen(
                [str(S3ML), *command, *free, *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, errors.read_text()
            said = json.loads(line)
            yield RunningProxy(said["rest"], said["grpc"] or "", said, process, errors)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(timeout=DEADLINE_S) == 0, errors.read_text()
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
