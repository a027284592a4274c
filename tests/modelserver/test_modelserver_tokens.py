"""Tokens: what is read, what is not, and what a rule admits. Each attack breaks one rule."""

import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_p256
from hypothesis import given
from hypothesis import strategies as st

from s3ml.keyservice.documents import RequiredClaim, TokenCallers
from s3ml.modelserver.tokens import LEEWAY_S, TOKEN_LIMIT_BYTES, TokenReader, is_admitted
from tests.modelserver.callers_world import (
    ED25519,
    ISSUER,
    KEYS,
    NOW_S,
    OTHER_ED25519,
    RSA,
    claims,
    jwk,
    sign,
    staff,
    token,
    unsigned,
    url64,
)

READER = TokenReader([staff()])
HEADER = {"alg": "EdDSA", "kid": "ed"}


def is_read(text: str, reader: TokenReader = READER) -> bool:
    return reader.read(text) is not None


class TestReading:
    """A token is read when an issuer's own key signed it, in its own algorithm."""

    @pytest.mark.parametrize("kid", KEYS)
    def test_each_algorithm(self, kid: str) -> None:
        found = READER.read(token(kid))
        assert found is not None
        assert found.subject == "ada"

    def test_the_helper_that_signs_bytes_signs_well(self) -> None:
        assert is_read(sign(HEADER, claims()))

    @pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
    def test_types_of_access_tokens(self, typ: str | None) -> None:
        assert is_read(token(header={"typ": typ}))

    def test_nothing_is_shown(self) -> None:
        assert repr(READER.read(token())) == "Token(redacted)"


class TestSignatures:
    """The key decides the algorithm; the token names at most the key."""

    def test_none(self) -> None:
        for alg in ("none", "None", "NONE", ""):
            assert not is_read(unsigned({"alg": alg, "kid": "ed"}, claims()))

    def test_a_public_key_as_a_shared_secret(self) -> None:
        """HS256 over what everybody knows: PEM, DER and raw."""
        public = RSA.public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        secrets = [
            public.public_bytes(serialization.Encoding.PEM, info),
            public.public_bytes(serialization.Encoding.DER, info),
            ED25519.public_key().public_bytes_raw(),
        ]
        for secret in secrets:
            for kid in ("rs", "ed"):
                text = unsigned({"alg": "HS256", "kid": kid}, claims()).rpartition(".")[0]
                mac = hmac.digest(secret, text.encode(), "sha256")
                assert not is_read(f"{text}.{url64(mac)}")

    @pytest.mark.parametrize(
        ("kid", "alg"), [("rs", "PS256"), ("ps", "RS256"), ("rs", "RS512"), ("ec", "ES256K")]
    )
    def test_the_right_key_in_another_algorithm(self, kid: str, alg: str) -> None:
        _, payload, signature = token(kid).split(".")
        if alg in ("PS256", "RS256"):
            assert not is_read(token(kid, alg=alg))
        assert not is_read(f"{url64(json.dumps({'alg': alg, 'kid': kid}).encode())}.{payload}.{signature}")

    @pytest.mark.parametrize("kid", ["ec", "rs", "zz", "", "ed ", "ED", "../ed", "ed\x00"])
    def test_another_key_s_id(self, kid: str) -> None:
        assert not is_read(token(private=ED25519, alg="EdDSA", header={"kid": kid}))

    def test_another_key_under_the_right_id(self) -> None:
        assert not is_read(token(private=OTHER_ED25519))

    def test_a_key_that_the_token_brings_along(self) -> None:
        other = OTHER_ED25519.public_key().public_bytes_raw()
        own = {"kty": "OKP", "crv": "Ed25519", "x": url64(other)}
        for header in ({"jwk": own}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example"}):
            assert not is_read(token(private=OTHER_ED25519, header=header))
            assert not is_read(token(None, private=OTHER_ED25519, header=header))

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_a_changed_part(self, part: int) -> None:
        parts, others = token().split("."), token("ed", sub="bo").split(".")
        others[0] = url64(json.dumps({"alg": "EdDSA", "kid": "ed", "typ": "jwt"}).encode())
        parts[part] = others[part]
        assert not is_read(".".join(parts))

    def test_another_curve(self) -> None:
        text = token("ec", private=generate_p256(SECP384R1()), alg="ES384")
        assert not is_read(text)


class TestKeyIds:
    """Without a key id there is no choice."""

    def test_one_key_needs_no_id(self) -> None:
        reader = TokenReader([staff(keys=(jwk(ED25519, "ed", "EdDSA"),))])
        assert is_read(token(None), reader)
        assert not is_read(token(None, private=OTHER_ED25519), reader)

    def test_several_keys_need_one(self) -> None:
        assert not is_read(token(None))

    def test_issuers_keep_their_keys_apart(self) -> None:
        """A key of one issuer signs for another: the same id, and none."""
        other = staff("others", issuer="https://other.example", keys=(jwk(OTHER_ED25519, "ed", "EdDSA"),))
        reader = TokenReader([staff(), other])
        assert is_read(token(private=OTHER_ED25519, iss="https://other.example"), reader)
        assert not is_read(token(private=ED25519, iss="https://other.example"), reader)
        assert not is_read(token(None, private=OTHER_ED25519), reader)

    @pytest.mark.parametrize(
        "iss", ["https://issuer.example/", "HTTPS://issuer.example", "https://issuer.exampIe", ""]
    )
    def test_a_foreign_issuer(self, iss: str) -> None:
        assert not is_read(token(iss=iss))


class TestForm:
    """What two readers could read differently is not read."""

    def test_oversized(self) -> None:
        assert is_read(token(padding="x" * 5000))
        assert len(token(padding="x" * 6000)) > TOKEN_LIMIT_BYTES
        assert not is_read(token(padding="x" * 6000))

    @pytest.mark.parametrize("name", ["exp", "aud", "iss", "sub", "groups"])
    def test_a_claim_that_stands_twice(self, name: str) -> None:
        body = json.dumps({**claims(), "groups": "x"})
        text = f"{body[:-1]}, {json.dumps(name)}: {json.dumps({**claims(), 'groups': 'x'}[name])}}}"
        assert not is_read(sign(HEADER, text.encode()))

    def test_a_claim_that_stands_twice_further_down(self) -> None:
        body = json.dumps(claims())[:-1] + ', "a": {"b": 1, "b": 2}}'
        assert not is_read(sign(HEADER, body.encode()))

    @pytest.mark.parametrize(
        "header",
        [
            b'{"alg":"EdDSA","kid":"ed","kid":"ed"}',
            b'{"alg":"EdDSA","kid":1}',
            b'{"kid":"ed"}',
            b'["EdDSA"]',
            b"",
            b"\xff",
            b'{"alg":"EdDSA","kid":"ed","crit":["exp"]}',
            b'{"alg":"EdDSA","kid":"ed","crit":[]}',
            b'{"alg":"EdDSA","kid":"ed","b64":false}',
            b'{"alg":"EdDSA","kid":"ed","b64":true}',
            b'{"alg":"EdDSA","kid":"ed","typ":"dpop+jwt"}',
            b'{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}',
            b'{"alg":"EdDSA","kid":"ed","typ":"secevent+jwt"}',
            b'{"alg":"EdDSA","kid":"ed","typ":7}',
        ],
    )
    def test_headers(self, header: bytes) -> None:
        assert not is_read(sign(header, claims()))

    @pytest.mark.parametrize(
        "change",
        [
            {"exp": None},
            {"exp": "9999999999"},
            {"exp": True},
            {"exp": [NOW_S + 60]},
            {"nbf": "now"},
            {"iat": {}},
            {"iss": None},
            {"iss": [ISSUER]},
            {"aud": None},
            {"aud": [1]},
            {"aud": {"tumours": 1}},
            {"sub": 7},
            {"cnf": {"jkt": "abc"}},
        ],
        ids=str,
    )
    def test_claims_of_another_type(self, change: dict[str, Any]) -> None:
        assert not is_read(token(**change))

    @pytest.mark.parametrize("exp", ["NaN", "Infinity", "1" + "0" * 400, "9" * 5000])
    def test_numbers_that_are_none(self, exp: str) -> None:
        body = json.dumps(claims(exp=1)).replace('"exp": 1', f'"exp": {exp}')
        assert not is_read(sign(HEADER, body.encode()))

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: "",
            lambda text: text + ".",
            lambda text: text + "=",
            lambda text: text[:-1] + ("B" if text.endswith("A") else text[-1]) + "\n",
            lambda text: text.replace(".", "..", 1),
            lambda text: text.rpartition(".")[0],
            lambda text: text.rpartition(".")[0] + ".",
            lambda text: " " + text,
            lambda text: text.replace(".", ".+/", 1),
            lambda text: text + "é",
            lambda text: text[:-1] + _next(text[-1]),
        ],
    )
    def test_one_encoding(self, spoil: Any) -> None:
        assert not is_read(spoil(token()))

    def test_deep_nesting(self) -> None:
        body = json.dumps(claims())[:-1] + ', "a": ' + "[" * 2500 + "]" * 2500 + "}"
        assert not is_read(sign(HEADER, body.encode()))

    @given(st.text(), st.dictionaries(st.text(), st.integers() | st.text()), st.binary())
    def test_anything_is_read_or_not(self, text: str, fields: dict[str, Any], data: bytes) -> None:
        assert not is_read(text)
        assert not is_read(unsigned({**fields, "alg": "EdDSA"}, {**claims(), **fields}, data))
        assert not is_read(unsigned(data, data, data))


def _next(character: str) -> str:
    """Return the character that differs in the bits that a 64-byte signature leaves over."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(character) ^ 1]


def is_let_in(rule: TokenCallers | None = None, *, now_s: float = NOW_S, **changes: Any) -> bool:
    found = READER.read(token(**changes))
    assert found is not None
    return is_admitted(found, rule or staff(), now_s=now_s)


class TestTimes:
    """A token holds between two instants, for a limited time, with a minute of leeway."""

    def test_now(self) -> None:
        assert is_let_in()

    def test_expired(self) -> None:
        assert is_let_in(exp=NOW_S - LEEWAY_S + 1)
        assert not is_let_in(exp=NOW_S - LEEWAY_S)

    @pytest.mark.parametrize("claim", ["nbf", "iat"])
    def test_not_yet_valid(self, claim: str) -> None:
        at: dict[str, Any] = {claim: NOW_S + LEEWAY_S}
        later: dict[str, Any] = {claim: NOW_S + LEEWAY_S + 1}
        assert is_let_in(**at)
        assert not is_let_in(**later)

    def test_it_need_not_say_since_when(self) -> None:
        assert is_let_in(nbf=None, iat=None)

    def test_for_too_long_from_now(self) -> None:
        rule = staff(max_lifetime_s=600)
        assert is_let_in(rule, iat=None, exp=NOW_S + 600 + LEEWAY_S)
        assert not is_let_in(rule, iat=None, exp=NOW_S + 601 + LEEWAY_S)

    def test_for_too_long_from_its_issue(self) -> None:
        rule = staff(max_lifetime_s=600)
        assert is_let_in(rule, iat=NOW_S - 500, exp=NOW_S + 100 + LEEWAY_S)
        assert not is_let_in(rule, iat=NOW_S - 500, exp=NOW_S + 101 + LEEWAY_S)

    def test_forever(self) -> None:
        assert not is_let_in(exp=1e308)
        body = json.dumps(claims(exp=1)).replace('"exp": 1', '"exp": 1e999')
        found = READER.read(sign(HEADER, body.encode()))
        assert found is None or not is_admitted(found, staff(), now_s=NOW_S)


class TestRules:
    """A rule admits its audience, with the claims that it requires."""

    def test_another_issuer_s_rule(self) -> None:
        assert not is_let_in(staff(issuer="https://other.example"))

    @pytest.mark.parametrize("aud", ["tumors", "Tumours", "tumours ", "", ["a", "b"], []])
    def test_the_wrong_audience(self, aud: Any) -> None:
        assert not is_let_in(aud=aud)

    def test_one_of_several_audiences(self) -> None:
        assert is_let_in(aud=["other", "tumours"])

    RULE = staff(
        claims=(
            RequiredClaim(claim="groups", values=("radiology", "oncology")),
            RequiredClaim(claim="tenant", values=("t1",)),
        )
    )

    @pytest.mark.parametrize("groups", ["radiology", ["x", "oncology"], ["radiology", "oncology"]])
    def test_required_claims(self, groups: Any) -> None:
        assert is_let_in(self.RULE, groups=groups, tenant="t1")

    @pytest.mark.parametrize(
        "groups",
        [
            None,
            "",
            "radiology,oncology",
            [],
            ["x"],
            {"radiology": True},
            True,
            1,
            [["radiology"]],
            "rаdiology",
        ],
    )
    def test_none_of_the_values(self, groups: Any) -> None:
        assert not is_let_in(self.RULE, groups=groups, tenant="t1")

    def test_every_claim_is_required(self) -> None:
        assert not is_let_in(self.RULE, groups="radiology")
