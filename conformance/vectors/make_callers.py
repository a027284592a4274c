"""Make the vectors of callers and of secrets; run once from the repository's root, once for each version.

``python -m conformance.vectors.make_callers``
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt import PyJWS

from s3ml.keyservice.bindings import secret_commitment, secret_info
from s3ml.primitives.encoding import sha256
from s3ml.primitives.signing import SigningKey
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, seal_once
from s3ml.wire.ohttp import Channel, KeyConfig
from s3ml.wire.sealed import InnerRequest, RequestSigner, proof_message, seal_request

FOLDER = Path(__file__).parent
SOURCE = "this project, conformance/vectors/make_callers.py"
NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
DEPLOYMENT, SERVICE = "d0" * 32, "tumours"
CALLER = SigningKey.from_raw(bytes(range(32)))
ISSUER = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
INTAKE = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes(range(64, 96)))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def write(name: str, vector: dict[str, Any]) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps({"source": SOURCE, **vector}, indent=1) + "\n")


def make_proof() -> dict[str, Any]:
    """A proof over a channel that is written out, and one in a sealed request that opens."""
    request = InnerRequest(
        method="POST",
        path="/v2/models/forest/infer",
        fields=(("date", "Mon, 23 Nov 2026 08:00:00 GMT"), ("content-type", "application/json")),
        content=b'{"inputs":[]}',
    )
    channel = Channel(header=bytes.fromhex("07002000010001"), public_key=bytes([1]) * 32, enc=bytes([2]) * 32)
    signer = RequestSigner(key=CALLER, deployment=DEPLOYMENT, service=SERVICE)
    private = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes(range(96, 128)))
    config = KeyConfig(key_id=7, kem=private.kem, public_key=private.public, suites=(HYBRID_AES256,))
    unsealed = InnerRequest(
        method=request.method, path=request.path, fields=request.fields[1:], content=request.content
    )
    sealed = seal_request(config, unsealed, date=NOW, signer=signer)
    return {
        "deployment": DEPLOYMENT,
        "service": SERVICE,
        "caller_private_key": CALLER.to_raw().hex(),
        "caller_public_key": str(CALLER.public),
        "header": channel.header.hex(),
        "recipient_public_key": channel.public_key.hex(),
        "enc": channel.enc.hex(),
        "method": request.method,
        "path": request.path,
        "fields": request.fields,
        "content": text(bytes(request.content)),
        "message": proof_message(channel, request, deployment=DEPLOYMENT, service=SERVICE).hex(),
        "authorization": signer.authorization(channel, request),
        "sealed": {"recipient_private_key": private.to_bytes().hex(), "key_id": 7, "body": text(sealed.body)},
    }


def make_tokens() -> dict[str, Any]:
    """A rule, a token that it admits at an instant, and tokens that it does not."""
    now = int(NOW.timestamp())
    rule = {
        "kind": "jwt",
        "name": "staff",
        "issuer": "https://issuer.example",
        "audience": SERVICE,
        "keys": [
            {
                "kty": "OKP",
                "kid": "k1",
                "alg": "EdDSA",
                "crv": "Ed25519",
                "x": url64(ISSUER.public_key().public_bytes_raw()),
            }
        ],
        "claims": [{"claim": "groups", "values": ["radiology"]}],
        "max_lifetime_s": 3600,
    }
    good: dict[str, Any] = {
        "iss": "https://issuer.example",
        "aud": SERVICE,
        "sub": "ada",
        "groups": ["radiology"],
    }
    good |= {"iat": now - 60, "exp": now + 600}
    header = {"alg": "EdDSA", "kid": "k1"}
    changes: dict[str, dict[str, Any]] = {
        "expired": {"exp": now - 60},
        "not yet valid": {"nbf": now + 61},
        "issued in the future": {"iat": now + 61},
        "holds for too long": {"iat": now - 60, "exp": now + 3601},
        "another issuer": {"iss": "https://issuer.example/"},
        "another audience": {"aud": "tumors"},
        "none of the required values": {"groups": ["oncology"]},
        "bound to a key": {"cnf": {"jkt": "x"}},
        "exp is a text": {"exp": str(now + 600)},
    }
    refused = {name: sign(header, {**good, **change}) for name, change in changes.items()}
    body = json.dumps(good)
    refused["a claim stands twice"] = sign(header, body[:-1] + f', "exp": {now + 600}}}')
    refused["another key id"] = sign({**header, "kid": "k2"}, good)
    refused["an extension"] = sign({**header, "crit": ["exp"]}, good)
    refused["another type"] = sign({**header, "typ": "logout+jwt"}, good)
    refused["no signature"] = ".".join((url64(b'{"alg":"none","kid":"k1"}'), url64(body.encode()), ""))
    return {
        "now": now,
        "rule": rule,
        "issuer_private_key": ISSUER.private_bytes_raw().hex(),
        "admitted": {
            "issued": sign(header, good),
            "at the last second": sign(header, {**good, "exp": now - 59}),
        },
        "refused": refused,
    }


def sign(header: dict[str, Any], payload: dict[str, Any] | str) -> str:
    body = payload if isinstance(payload, str) else json.dumps(payload)
    if "crit" not in header:
        return PyJWS().encode(body.encode(), ISSUER, algorithm="EdDSA", headers=header)
    message = f"{url64(json.dumps(header).encode())}.{url64(body.encode())}"
    return f"{message}.{url64(ISSUER.sign(message.encode()))}"


def make_secret() -> dict[str, Any]:
    """An opaque secret as its owner seals it."""
    salt, value = bytes(range(32)), b"correct horse battery staple"
    fields = {"deployment": DEPLOYMENT, "service": SERVICE, "secret": "password", "policy_sha256": "ab" * 32}
    info = secret_info(**fields)
    sealed = seal_once(HYBRID_AES256, INTAKE.public, salt + value, info=info)
    return {
        **fields,
        "intake_private_key": INTAKE.to_bytes().hex(),
        "info": info.hex(),
        "salt": salt.hex(),
        "value": text(value),
        "sealed": text(sealed),
        "document": {
            "kind": "opaque",
            "version": 1,
            "secret": "password",
            "service": SERVICE,
            "policy": "narrow",
            "policy_sha256": "ab" * 32,
            "sealed_sha256": sha256(sealed).hex(),
            "commitment": secret_commitment(salt, value),
        },
    }


def main() -> None:
    write("callers", {"proof": make_proof(), "tokens": make_tokens()})
    write("secrets", make_secret())


if __name__ == "__main__":
    main()
