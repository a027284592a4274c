"""Fuzz for long: what `python -m tests.….fuzz SECONDS [TARGET …]` runs.

A package of fuzzing has a module ``targets`` with a mapping `TARGETS`. With atheris (libFuzzer, guided by
coverage) where it can be imported, and with damage of our own where not. Each target runs in a process of its
own, within a limit of time per input and of memory. A fault ends with status 1 and leaves its input in
`FUZZ_FOLDER` (by default a fresh folder, which is named).
"""

import importlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.fuzzing.damage import damage

INPUT_LIMIT_S = 10
MEMORY_LIMIT_MB = 1024
LONGEST_BYTES = 40_000
CHILD = "--one"


class Target(Protocol):
    """Takes any bytes and tells whether they are accepted; what is not documented gets out."""

    def __call__(self, data: bytes) -> bool: ...

    def seeds(self) -> tuple[bytes, ...]:
        """Return honest bytes to start from."""


def main(package: str, covers: str, arguments: list[str]) -> int:
    """Run what was asked for; return the exit status.

    Args:
        package: Of fuzzing.
        covers: The package whose code guides atheris.
        arguments: Of the command line.
    """
    if arguments[:1] == [CHILD]:
        return fuzz_one(package, covers, arguments[1], int(arguments[2]), Path(arguments[3]))
    if not arguments or not arguments[0].isdigit():
        sys.exit(f"usage: python -m {package} SECONDS [TARGET …]")
    return fuzz_all(package, int(arguments[0]), arguments[1:])


def targets_of(package: str) -> Mapping[str, Target]:
    """Return the targets of a package of fuzzing."""
    found: Mapping[str, Target] = importlib.import_module(f"{package}.targets").TARGETS
    return found


def fuzz_all(package: str, seconds: int, names: list[str]) -> int:
    """Fuzz each target for `seconds`, one after the other."""
    folder = Path(os.environ.get("FUZZ_FOLDER") or tempfile.mkdtemp(prefix="s3ml-fuzz-"))
    engine = "atheris" if importlib.util.find_spec("atheris") else "own damage: atheris is not installed"
    say(f"fuzzing for {seconds} s per target with {engine}; inputs in {folder}")
    faults = []
    for name in names or targets_of(package):
        command = [sys.executable, "-m", package, CHILD, name, str(seconds), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        say(f"{name}: {'ok' if done.returncode == 0 else 'FAULT'}: {summary(lines)}")
        if done.returncode != 0:
            say("\n".join(lines[-40:]))
            faults.append(name)
    say(f"{len(faults)} faults: {', '.join(faults)}" if faults else "no faults")
    return 1 if faults else 0


def summary(lines: list[str]) -> str:
    """Return the line of libFuzzer's, or of ours, that counts executions."""
    return next((line for line in reversed(lines) if "Done " in line), lines[-1])


def fuzz_one(package: str, covers: str, name: str, seconds: int, folder: Path) -> int:
    """Fuzz one target in this process."""
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris"):
        return fuzz_with_atheris(package, covers, name, seconds, corpus)
    return fuzz_with_damage(package, name, seconds, corpus)


def fuzz_with_atheris(package: str, covers: str, name: str, seconds: int, corpus: Path) -> int:
    """Let libFuzzer choose inputs by what code they reach."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=[covers]):
        target = targets_of(package)[name]
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def run(data: bytes) -> None:
        target(data)

    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_LIMIT_S}",
        f"-rss_limit_mb={MEMORY_LIMIT_MB}",
        f"-max_len={LONGEST_BYTES}",
        f"-artifact_prefix={corpus}/fault-",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()
    return 0


def fuzz_with_damage(package: str, name: str, seconds: int, corpus: Path) -> int:
    """Damage honest bytes at random; the seed of the run is said, so that it can be had again."""
    target, start = targets_of(package)[name], time.monotonic()
    seeds, seed = target.seeds(), random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)  # noqa: S311 - inputs of a test
    count = accepted = 0
    while time.monotonic() - start < seconds:
        data = damage(chance, seeds)
        began = time.monotonic()
        try:
            accepted += target(data)
        except BaseException:
            (corpus / "fault").write_bytes(data)
            raise
        if time.monotonic() - began > INPUT_LIMIT_S:
            (corpus / "slow").write_bytes(data)
            raise TimeoutError(f"{name}: an input took longer than {INPUT_LIMIT_S} s")
        count += 1
    say(f"Done {count} runs in {seconds} second(s), {accepted} accepted, seed {seed}")
    return 0


def say(text: str) -> None:
    """Write a line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
