"""Callers and secrets on the command line: what owners type, and what they are shown before they sign."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from s3ml.apps.cli import infer, service
from s3ml.apps.cli.root import run
from s3ml.apps.governance.amendments import explain_effects
from s3ml.apps.governance.caller_options import read_callers
from s3ml.apps.governance.callers import describe_callers, name_callers
from s3ml.apps.governance.secrets import describe_secret, read_secret_document
from s3ml.keyservice.documents import (
    AnonymousCallers,
    CallerRule,
    Ed25519IssuerKey,
    KeyCaller,
    OpaqueSecretDocument,
    P256IssuerKey,
    RateLimit,
    RequiredClaim,
    RSAIssuerKey,
    ServiceDocument,
    SymmetricKeyDocument,
    TokenCallers,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from tests.modelserver.callers_world import ISSUER_KEYS

ADA = SigningKey.generate().public
JWKS = {
    "keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": ISSUER_KEYS[0].x, "use": "sig", "x5t": "abc"},  # type: ignore[union-attr]
        {"kty": "RSA", "kid": "b", "use": "enc", "n": "AQ", "e": "AQAB"},
    ]
}
TOKENS = """
name = "staff"
issuer = "https://issuer.example"
audience = "tumours"
keys = "jwks.json"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ada.pub").write_text(f"{ADA}\n")
    (tmp_path / "jwks.json").write_text(json.dumps(JWKS))
    (tmp_path / "staff.toml").write_text(TOKENS)
    return tmp_path


class TestRules:
    """Three forms, and anybody where nothing is said."""

    def test_anybody(self) -> None:
        assert read_callers(()) == read_callers(("anonymous",)) == (AnonymousCallers(),)

    def test_a_key(self, folder: Path) -> None:
        assert read_callers(("key:ada=ada.pub",)) == (KeyCaller(name="ada", key=str(ADA)),)

    def test_a_key_with_its_roles(self, folder: Path) -> None:
        (rule,) = read_callers(("key:ada=ada.pub,infer,models",))
        assert rule == KeyCaller(name="ada", key=str(ADA), roles=("infer", "models"))

    def test_tokens(self, folder: Path) -> None:
        (rule,) = read_callers(("jwt:staff.toml",))
        assert isinstance(rule, TokenCallers)
        assert rule.keys == (Ed25519IssuerKey(kid="a", alg="EdDSA", crv="Ed25519", x=ISSUER_KEYS[0].x),)  # type: ignore[union-attr]
        assert (rule.roles, rule.rate, rule.max_lifetime_s, rule.claims) == (("infer",), None, 86_400, ())

    def test_everything_about_tokens(self, folder: Path) -> None:
        (folder / "staff.toml").write_text(
            TOKENS
            + 'roles = ["infer", "models"]\nmax_lifetime_s = 600\nrate = { per_s = 0.5, burst = 3 }\n'
            + '[claims]\ngroups = ["radiology", "oncology"]\n'
        )
        (rule,) = read_callers(("jwt:staff.toml",))
        assert isinstance(rule, TokenCallers)
        assert rule.claims == (RequiredClaim(claim="groups", values=("radiology", "oncology")),)
        assert (rule.roles, rule.max_lifetime_s) == (("infer", "models"), 600)
        assert rule.rate == RateLimit(per_s=0.5, burst=3)

    def test_each_kind_of_key(self, folder: Path) -> None:
        keys = [dict(zip(key.__struct_fields__, _values(key), strict=True)) for key in ISSUER_KEYS]
        kinds = {Ed25519IssuerKey: "OKP", P256IssuerKey: "EC", RSAIssuerKey: "RSA"}
        published = [
            {**fields, "kty": kinds[type(key)]} for key, fields in zip(ISSUER_KEYS, keys, strict=True)
        ]
        (folder / "jwks.json").write_text(json.dumps({"keys": published}))
        (rule,) = read_callers(("jwt:staff.toml",))
        assert isinstance(rule, TokenCallers)
        assert rule.keys == ISSUER_KEYS

    @pytest.mark.parametrize(
        "option",
        [
            "",
            "anyone",
            "key:",
            "key:ada",
            "key:=ada.pub",
            "key:Ada=ada.pub",
            "key:..=ada.pub",
            "key:ada=ada.pub,owner",
            "key:ada=ada.pub,",
            "key:ada=ada.pub,infer,infer",
            "jwt:",
            "jwt:none.toml",
        ],
    )
    def test_no_other_form(self, folder: Path, option: str) -> None:
        with pytest.raises(ConfigurationError):
            read_callers((option,))

    def test_a_contradiction(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="--caller: callers: expected anonymous alone"):
            read_callers(("anonymous", "key:ada=ada.pub"))

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}, "is a private or a shared one"),
            ({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "A" * 43, "d": "A" * 43}, "is a private"),
            ({"kty": "AKP", "kid": "a"}, "expected kty OKP, EC or RSA, got 'AKP'"),
            ({"kty": "RSA", "kid": "a", "n": "A" * 342, "e": "AQAB"}, "says no alg"),
            ({"kty": "RSA", "kid": "a", "n": "A" * 342, "e": "AQAB", "alg": "HS256"}, "alg"),
            ({"kty": "OKP", "crv": "X25519", "kid": "a", "x": "A" * 43}, "X25519"),
            ({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}, "kid"),
            ({"kty": "EC", "crv": "P-256", "kid": "a", "x": "A" * 43}, "missing required field `y`"),
        ],
    )
    def test_keys_that_are_none(self, folder: Path, key: dict[str, Any], message: str) -> None:
        (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))
        with pytest.raises(ConfigurationError, match=message):
            read_callers(("jwt:staff.toml",))

    @pytest.mark.parametrize(
        "text", ["", "x = ", 'name = "staff"', TOKENS + "algorithms = ['none']", TOKENS + "rate = {}"]
    )
    def test_files_that_are_none(self, folder: Path, text: str) -> None:
        (folder / "staff.toml").write_text(text)
        with pytest.raises(ConfigurationError, match=r"staff\.toml"):
            read_callers(("jwt:staff.toml",))

    def test_a_key_set_that_is_none(self, folder: Path) -> None:
        (folder / "jwks.json").write_text("[]")
        with pytest.raises(ConfigurationError, match=r"jwks\.json: expected a JWK set"):
            read_callers(("jwt:staff.toml",))


def _values(key: Any) -> list[str]:
    return [getattr(key, name) for name in key.__struct_fields__]


class TestWords:
    """A person who signs reads who may call."""

    def test_anybody(self) -> None:
        assert describe_callers((AnonymousCallers(),)) == [
            "Anybody may call it: it asks nobody who they are."
        ]

    def test_a_key_and_its_rate(self) -> None:
        rule = KeyCaller(name="ada", key=str(ADA), rate=RateLimit(per_s=0.5, burst=3))
        (line,) = describe_callers((rule,))
        assert line == (
            f"Caller ada may infer: whoever signs with {ADA}. At most 0.5 calls a second from it at each "
            "replica, 3 at once."
        )

    def test_tokens(self) -> None:
        rule = TokenCallers(
            name="staff",
            issuer="https://issuer.example",
            audience="tumours",
            keys=ISSUER_KEYS[:1],
            claims=(
                RequiredClaim(claim="tenant", values=("t1",)),
                RequiredClaim(claim="groups", values=("a", "b")),
            ),
            roles=("infer", "models"),
        )
        (line,) = describe_callers((rule,))
        assert line == (
            "Callers staff may infer and load and unload models: whoever bears a token of "
            "https://issuer.example for tumours, with tenant t1, with groups one of a, b, valid for at most "
            "86400 s, signed with ed (EdDSA)."
        )
        assert name_callers((rule, KeyCaller(name="ada", key=str(ADA)))) == "staff (jwt), ada (key)"
        assert name_callers((AnonymousCallers(),)) == "anonymous"

    def test_a_change_of_callers_cannot_be_overlooked(self) -> None:
        anybody, ada = self.service(AnonymousCallers()), self.service(KeyCaller(name="ada", key=str(ADA)))
        assert explain_effects("services/tumours", "PUT", ada, anybody) == [
            "Its callers CHANGE: they are ada (key), and will be anonymous.",
            "Replicas that serve follow within 100 s, when they renew what they hold.",
        ]
        assert explain_effects("services/tumours", "PUT", ada, ada) == []
        assert explain_effects("services/tumours", "PUT", None, ada) == []

    def service(self, rule: CallerRule) -> bytes:
        fields: dict[str, Any] = {"service": "tumours", "policy": "models", "policy_sha256": "ab" * 32}
        grant = Envelope(payload_type="any", payload=b"")
        return encode_document(
            ServiceDocument(**fields, callers=(rule,), model_owners=(str(ADA),), models=(grant,))
        )


class TestSecrets:
    """A person who signs a secret reads what becomes of it."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "secret": "at-rest",
        "service": "tumours",
        "policy": "narrow",
        "policy_sha256": "ab" * 32,
    }

    def test_a_key(self) -> None:
        document = SymmetricKeyDocument(**self.FIELDS)
        assert read_secret_document(encode_document(document)) == document
        lines = describe_secret(document)
        assert "32 bytes that the key service makes inside its TEE" in lines[0]
        assert f"policy narrow ({'ab' * 32})" in lines[1]

    def test_a_value(self) -> None:
        document = OpaqueSecretDocument(**self.FIELDS, sealed_sha256="cd" * 32, commitment="ef" * 32)
        assert read_secret_document(encode_document(document)) == document
        text = "\n".join(describe_secret(document))
        assert "cd" * 32 in text
        assert "ef" * 32 in text

    def test_no_secret(self) -> None:
        with pytest.raises(ConfigurationError, match="secret: "):
            read_secret_document(b"{}")


class TestCommands:
    """Wrong input is one line and status 2, before anything is asked of anybody."""

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ("secret sign at-rest --key k", "expected --service, --policy, and either --generate"),
            (
                "secret sign at-rest --service s --policy p --generate --from-file ada.pub --key k",
                "either --generate or --from-file",
            ),
            ("infer s --input x.csv --token-file a --caller-key b", "got both"),
            ("infer s --input x.csv --token-file none", "No such file"),
            ("infer s --input x.csv --token-file jwks.json", "jwks.json: token: expected"),
            ("infer s --input x.csv --caller-key ada.pub", "is a public key; give the .key file"),
        ],
    )
    def test_wrong_input(
        self, folder: Path, capsys: pytest.CaptureFixture[str], words: str, line: str
    ) -> None:
        (folder / "x.csv").write_text("1\n")
        assert run(words.split()) == 2
        told = capsys.readouterr().err
        assert line in told
        assert told.count("\n") == 1

    def test_help_says_what_holds_without_callers(self) -> None:
        text = CliRunner().invoke(service.sign_command, ["--help"]).output
        assert "Without --caller anybody may call it." in " ".join(text.split())
        assert "--token-file" in CliRunner().invoke(infer.command, ["--help"]).output
