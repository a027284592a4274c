"""A real witness process: started, asked, killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3ml.transparency.witness.client import WitnessClient
from tests.transparency.live_witness import SIGNER, configuration

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 120.0
S3ML = Path(sys.executable).with_name("s3ml")


@dataclass
class Running:
    """A process and what it told."""

    process: subprocess.Popen[str]
    url: str
    told: list[dict[str, Any]] = field(default_factory=list)

    def client(self) -> WitnessClient:
        return WitnessClient(self.url, timeout_s=DEADLINE_S)

    def end(self, number: signal.Signals) -> int:
        """Send it a signal, and return its status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_S)


def prepare(folder: Path) -> None:
    """Write a witness's key and configuration."""
    (folder / "witness.key").write_text(SIGNER.to_text())
    (folder / "witness.toml").write_text(configuration())


@contextlib.contextmanager
def running(
    folder: Path, *options: str, program: tuple[str, ...] = (str(S3ML), "witness", "serve")
) -> Iterator[Running]:
    """Run a witness over the files in `folder` as long as the block."""
    process = subprocess.Popen(
        [
            *program,
            *("--config", "witness.toml", "--key", "witness.key", "--state", "state"),
            *("--listen", "127.0.0.1:0", *options),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    drain = None
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("{"), line
        first = json.loads(line)
        assert first["event"] == "listening"
        made = Running(process, f"http://{first['listen']}", [first])
        stderr = process.stderr

        def take() -> None:
            for told in stderr:
                with contextlib.suppress(ValueError):
                    made.told.append(json.loads(told))

        drain = threading.Thread(target=take)
        drain.start()
        yield made
    finally:
        process.kill()
        process.wait(timeout=DEADLINE_S)
        if drain is not None:
            drain.join(DEADLINE_S)
        if process.stderr is not None:
            process.stderr.close()
