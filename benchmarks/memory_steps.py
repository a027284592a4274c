"""A replica's memory, step by step: imports and loads what a replica does, and reads its memory each time.

Started by `memory.py` under the flags of an enclave process (``-I -S -B``, bytecode precompiled), so that the
steps add up to what a replica holds. Prints one JSON line per step.
"""

import sys
from pathlib import Path

_FIELDS = ("Rss", "Pss", "Private_Clean", "Private_Dirty", "Anonymous")


def memory_of(pid: int | str = "self") -> dict[str, float]:
    """Return the memory of a process in MB: resident, proportional, private, anonymous."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in _FIELDS:
            found[name] = int(rest.split()[0]) * 1024 / 1e6
    return {
        "rss_mb": round(found["Rss"], 2),
        "pss_mb": round(found["Pss"], 2),
        "private_mb": round(found["Private_Clean"] + found["Private_Dirty"], 2),
        "anonymous_mb": round(found["Anonymous"], 2),
    }


def say(step: str, part: str) -> None:
    """Print the memory after a step, and the part of the replica that the step belongs to."""
    sys.stdout.write(f'{{"step": "{step}", "part": "{part}"')
    for name, value in memory_of().items():
        sys.stdout.write(f', "{name}": {value}')
    sys.stdout.write("}\n")
    sys.stdout.flush()


def main() -> None:
    """Go through the steps; the only argument is the model's plaintext file."""
    say("python, bare", "interpreter")
    import asyncio  # noqa: F401, PLC0415
    import concurrent.futures  # noqa: F401, PLC0415
    import json  # noqa: F401, PLC0415
    import logging  # noqa: F401, PLC0415
    import ssl  # noqa: F401, PLC0415

    say("standard library: asyncio, ssl, json, logging", "interpreter")
    import numpy as np  # noqa: PLC0415

    say("numpy", "libraries")
    import cryptography.hazmat.primitives.asymmetric.x25519  # noqa: F401, PLC0415

    say("cryptography", "libraries")
    import httptools  # noqa: F401, PLC0415
    import msgspec  # noqa: F401, PLC0415
    import uvicorn  # noqa: F401, PLC0415
    import uvloop  # noqa: F401, PLC0415

    say("uvicorn, uvloop, httptools, msgspec", "libraries")
    import pyrage  # noqa: F401, PLC0415
    import urllib3  # noqa: F401, PLC0415

    say("urllib3, pyrage", "libraries")
    import s3ml.apps.processes.model_server  # noqa: PLC0415
    import s3ml.attestation.simulated.attester  # noqa: PLC0415
    import s3ml.modelserver.server  # noqa: F401, PLC0415

    say("s3ml itself", "s3ml")
    import s3ml.modelserver.runtimes.onnx as runtime  # noqa: PLC0415

    say("onnxruntime", "runtime")
    from benchmarks.plaintext import model_files  # noqa: PLC0415

    model = runtime.open_model(model_files(Path(sys.argv[1])))
    say("the model, opened", "model")
    feeds = {spec.name: np.zeros([abs(size) for size in spec.shape], np.float32) for spec in model.inputs}
    for _ in range(100):
        model.run(feeds, [spec.name for spec in model.outputs])
    say("100 inferences", "model")


if __name__ == "__main__":
    main()
