"""Callers and secrets with real processes: owners sign them, replicas in their TEE hold to them."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.apps.conftest import Desk, Ended, commands, running_cluster
from tests.modelserver.callers_world import url64

pytestmark = pytest.mark.integration

ISSUER = Ed25519PrivateKey.generate()
DEADLINE_S = 300.0
RULES = ("--caller", "key:ada=ada.pub", "--caller", "key:ops=ops.pub,models", "--caller", "jwt:staff.toml")


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A cluster whose service admits one key and the tokens of one issuer."""
    with running_cluster("tumours") as desk:
        for name in ("owners begin", "owners sign the policy"):
            desk.follow_readme(name)
        train, generate, pack, *_ = commands("model owner")
        for words in (
            train,
            generate,
            pack,
        ):  # the service is signed below, for the first time with its rules
            assert desk.run(*words).status == 0
        write_rules(desk.folder)
        for name in ("ada", "bo", "ops"):
            assert desk.s3ml("key", "generate", name).status == 0
        sign(desk, "service", "sign", "tumours", "--policy", "model-server", *RULES)
        yield desk


def write_rules(folder: Path) -> None:
    (folder / "staff.toml").write_text(
        'name = "staff"\nissuer = "https://issuer.example"\naudience = "tumours"\nkeys = "jwks.json"\n'
        '[claims]\ngroups = ["radiology"]\n'
    )
    raw = ISSUER.public_key().public_bytes_raw()
    key = {"kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "x": url64(raw)}
    (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))


def sign(desk: Desk, *words: str) -> Ended:
    """Sign with both owners' keys at once."""
    grant = ("--model", "tumours-1.grant.json", "--model-owner", "model-owner.pub")
    extra = grant if words[0] == "service" else ()
    done = desk.s3ml(*words, *extra, "--key", "alice.key", "--key", "carol.key")
    assert done.status == 0, done.err
    return done


def infer(desk: Desk, *credentials: str, until: int = 0, saying: str = "") -> Ended:
    """Call the service, until it answers as expected."""
    return ask(desk, "infer", "tumours", "--input", "rows.csv", *credentials, until=until, saying=saying)


def ask(desk: Desk, *words: str, until: int = 0, saying: str = "") -> Ended:
    """Ask until the expected status and words come: each replica renews its rules in its own time."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        done = desk.s3ml(*words)
        if done.status == until and saying in done.out + done.err:
            return done
        assert time.monotonic() < deadline_s, f"expected status {until} and {saying!r}, got {done}"


def write_token(folder: Path, **changes: object) -> None:
    now = int(time.time())
    claims = {"iss": "https://issuer.example", "aud": "tumours", "sub": "ada", "groups": ["radiology"]}
    text = jwt.encode(
        {**claims, "exp": now + 300, **changes}, ISSUER, algorithm="EdDSA", headers={"kid": "k"}
    )
    (folder / "token.jwt").write_text(text + "\n")


class TestCallers:
    """Who is named may call, and nobody else."""

    def test_owners_are_shown_who_may_call(self, desk: Desk) -> None:
        done = desk.s3ml("service", "list")
        assert "ada (key), ops (key), staff (jwt)" in done.out
        (listed,) = json.loads(desk.s3ml("service", "list", "--json").out)["services"]
        assert [rule["kind"] for rule in listed["callers"]] == ["key", "key", "jwt"]

    def test_a_key_that_is_named(self, desk: Desk) -> None:
        done = infer(desk, "--caller-key", "ada.key")
        assert done.status == 0, done.err
        assert len(done.out.splitlines()) == 6

    def test_a_token(self, desk: Desk) -> None:
        write_token(desk.folder)
        done = infer(desk, "--token-file", "token.jwt")
        assert done.status == 0, done.err

    def test_nobody_else(self, desk: Desk) -> None:
        infer(desk, until=2, saying="got none: pass credentials=")
        done = infer(desk, "--caller-key", "bo.key", until=2, saying="which it does not name")
        assert done.line

    @pytest.mark.parametrize("change", [{"exp": 1}, {"aud": "other"}, {"groups": ["oncology"]}], ids=str)
    def test_a_token_that_is_not_admitted(self, desk: Desk, change: dict[str, object]) -> None:
        write_token(desk.folder, **change)
        done = infer(desk, "--token-file", "token.jwt", until=2, saying="does not admit these credentials")
        assert done.line


class TestRepository:
    """Models are listed by any caller, loaded and unloaded by one with the role for it."""

    def test_who_lacks_the_role_only_looks(self, desk: Desk) -> None:
        done = ask(desk, "repository", "index", "tumours", "--caller-key", "ada.key")
        assert done.out.split()[:2] == ["tumours", "1"]
        unload = ("repository", "unload", "tumours", "tumours", "--caller-key", "ada.key")
        assert ask(desk, *unload, until=2, saying="lacks the role for this").line

    def test_who_has_it_unloads_and_loads(self, desk: Desk) -> None:
        operator = ("--caller-key", "ops.key")
        assert "unloaded" in ask(desk, "repository", "unload", "tumours", "tumours", *operator).out
        assert "loaded" in ask(desk, "repository", "load", "tumours", "tumours", *operator).out
        other = ("repository", "load", "tumours", "other", *operator)
        assert ask(desk, *other, until=2, saying="has no such model").line

    def test_scripts_get_json(self, desk: Desk) -> None:
        done = ask(desk, "repository", "index", "tumours", "--ready", "--json", "--caller-key", "ops.key")
        assert json.loads(done.out)["models"][:1] in (
            [{"name": "tumours", "version": "1", "state": "READY", "reason": ""}],
            [],
        )


class TestSecrets:
    """A secret is signed, listed, rotated; its value is nowhere to be seen."""

    def test_a_key_and_a_value(self, desk: Desk) -> None:
        common = ("--service", "tumours", "--policy", "model-server")
        done = sign(desk, "secret", "sign", "at-rest", *common, "--generate")
        assert "makes inside its TEE" in done.err
        assert "secrets/at-rest: version 1 holds" in done.out
        (desk.folder / "password.txt").write_text("correct horse battery staple")
        sign(desk, "secret", "sign", "password", *common, "--from-file", "password.txt")
        assert "version 2 holds" in sign(desk, "secret", "sign", "at-rest", *common, "--generate").out
        listed = json.loads(desk.s3ml("secret", "list", "--json").out)["secrets"]
        assert [(one["secret"], one["version"], one["kind"]) for one in listed] == [
            ("at-rest", 2, "symmetric-key"),
            ("password", 1, "opaque"),
        ]
        assert "correct horse" not in "".join((json.dumps(listed), desk.s3ml("log", "show").out))

    def test_one_for_a_service_that_is_not_there(self, desk: Desk) -> None:
        words = ("secret", "sign", "x", "--service", "nope", "--policy", "model-server", "--generate")
        done = desk.s3ml(*words, "--key", "alice.key", "--key", "carol.key")
        assert done.status == 3
        assert "service: expected one that stands, got nope" in done.line
