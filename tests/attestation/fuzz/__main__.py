"""Fuzz for long: `python -m tests.attestation.fuzz SECONDS [TARGET …]`; with `flips`, flip every signed bit.

With atheris (libFuzzer, guided by coverage) where it can be imported, and with damage of our own where not.
Each target runs in a process of its own, within a limit of time per input and of memory. A fault ends with
status 1 and leaves its input in `FUZZ_FOLDER` (by default a fresh folder, which is named).
"""

import importlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

INPUT_LIMIT_S = 10
MEMORY_LIMIT_MB = 1024
LONGEST_BYTES = 40_000
CHILD = "--one"


def main(arguments: list[str]) -> int:
    """Run what was asked for; return the exit status."""
    if arguments[:1] == [CHILD]:
        return fuzz_one(arguments[1], int(arguments[2]), Path(arguments[3]))
    if arguments == ["flips"]:
        return flip_every_bit()
    if not arguments or not arguments[0].isdigit():
        sys.exit("usage: python -m tests.attestation.fuzz SECONDS [TARGET …] | flips")
    return fuzz_all(int(arguments[0]), arguments[1:])


def fuzz_all(seconds: int, names: list[str]) -> int:
    """Fuzz each target for `seconds`, one after the other."""
    from tests.attestation.fuzz.targets import TARGETS

    folder = Path(os.environ.get("FUZZ_FOLDER") or tempfile.mkdtemp(prefix="s3ml-fuzz-"))
    engine = "atheris" if importlib.util.find_spec("atheris") else "own damage: atheris is not installed"
    say(f"fuzzing for {seconds} s per target with {engine}; inputs in {folder}")
    faults = []
    for name in names or TARGETS:
        command = [sys.executable, "-m", "tests.attestation.fuzz", CHILD, name, str(seconds), str(folder)]
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


def fuzz_one(name: str, seconds: int, folder: Path) -> int:
    """Fuzz one target in this process."""
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris"):
        return fuzz_with_atheris(name, seconds, corpus)
    return fuzz_with_damage(name, seconds, corpus)


def fuzz_with_atheris(name: str, seconds: int, corpus: Path) -> int:
    """Let libFuzzer choose inputs by what code they reach."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["s3ml.attestation"]):
        from tests.attestation.fuzz.targets import TARGETS
    target = TARGETS[name]
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


def fuzz_with_damage(name: str, seconds: int, corpus: Path) -> int:
    """Damage honest bytes at random; the seed of the run is said, so that it can be had again."""
    from tests.attestation.fuzz.damage import damage
    from tests.attestation.fuzz.targets import TARGETS

    target, start = TARGETS[name], time.monotonic()
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


def flip_every_bit() -> int:
    """Flip every bit of what is signed in every format of a quote."""
    from tests.attestation.corpus.lie import ACCEPTED
    from tests.attestation.fuzz.flips import every_bit, judge_flip, quote_parts
    from tests.attestation.fuzz.formats import formats

    believed = 0
    for name, world in formats().items():
        for part in quote_parts(world):
            flips = list(every_bit(part))
            wrong = [flip for flip in flips if judge_flip(world, *flip).result == ACCEPTED]
            say(f"{name}: {part.name}: {len(flips)} flips, {len(wrong)} accepted {wrong[:8] or ''}")
            believed += len(wrong)
    return 1 if believed else 0


def say(text: str) -> None:
    """Write a line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
