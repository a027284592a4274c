"""Make the vectors of cosignatures with `cryptography` alone; run once from the repository's root.

``python -m conformance.vectors.make_cosignature``
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER = Path(__file__).parent
ROOT = hashlib.sha256(b"root").digest()
# A checkpoint of a public log as it was served, with the cosignature of a public witness and its public key.
REAL_NOTE = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""  # noqa: E501 - lines as they are signed


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def line(name: str, kind: int, seed: bytes, message: bytes, prefix: bytes = b"") -> tuple[str, str]:
    """Return a verifier key and a signature line of it."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = bytes([kind]) + private.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    signature = text(key_id + prefix + private.sign(message))
    return f"{name}+{key_id.hex()}+{text(public)}", f"— {name} {signature}\n"


def case(title: str, size: int, extension: str, times: dict[str, int]) -> dict[str, Any]:
    origin = "s3ml/" + "ab" * 32
    body = f"{origin}\n{size}\n{text(ROOT)}\n{extension}"
    log, signed = line(origin, 1, bytes([5]) * 32, body.encode())
    note, witnesses = body + "\n" + signed, {}
    for number, (name, time) in enumerate(times.items()):
        message = f"cosignature/v1\ntime {time}\n{body}".encode()
        key, cosigned = line(name, 4, bytes([101 + number]) * 32, message, time.to_bytes(8, "big"))
        note += cosigned
        witnesses[key] = time
    return {"title": title, "log": log, "note": note, "witnesses": witnesses}


def main() -> None:
    """Write ``cosignature.json``."""
    vector = {
        "source": (
            "C2SP tlog-cosignature v1.0.0 and signed-note v1.0.0; made without this project's code by "
            "conformance/vectors/make_cosignature.py; the last case is a checkpoint of a public log and "
            "the cosignature of the public witness remora.n621.de, with the keys that they publish"
        ),
        "cases": [
            case("one witness", 7, "", {"witness.example/w1": 1_772_366_400}),
            case(
                "two witnesses at different times",
                20_852_163,
                "",
                {"witness.example/w1": 1_772_366_400, "witness.example/w2": 1_772_366_461},
            ),
            case("an extension line is covered", 1, "an extension\n", {"witness.example/w1": 1}),
            {
                "title": "a public log and a public witness",
                "log": "arche2025h1.staging.ct.transparency.dev+ba2f06c0+"
                "AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f",
                "note": REAL_NOTE,
                "witnesses": {
                    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2": 1_779_573_024
                },
            },
        ],
    }
    (FOLDER / "cosignature.json").write_text(json.dumps(vector, indent=1) + "\n")


if __name__ == "__main__":
    main()
