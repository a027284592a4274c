"""Rules about callers: what parses, what the key service refuses, all mismatches at once."""

import base64
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from s3ml.keyservice.caller_rules import judge_callers, read_issuer_key
from s3ml.keyservice.documents import (
    AnonymousCallers,
    CallerRule,
    Ed25519IssuerKey,
    IssuerKey,
    KeyCaller,
    P256IssuerKey,
    RateLimit,
    RequiredClaim,
    RSAIssuerKey,
    ServiceDocument,
    TokenCallers,
)
from s3ml.keyservice.errors import RefusedError
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from tests.keyservice.keyservice_world import World

ADA, BO = (SigningKey.from_raw(bytes([n]) * 32).public for n in (51, 52))

SAMPLE: dict[str, Any] = {
    "service": "tumours",
    "policy": "models",
    "policy_sha256": "ab" * 32,
    "model_owners": [str(ADA)],
    "models": [{"payloadType": "any", "payload": ""}],
}


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return url64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def ed25519_key(kid: str = "one", raw: bytes = ADA.raw) -> Ed25519IssuerKey:
    return Ed25519IssuerKey(kid=kid, alg="EdDSA", crv="Ed25519", x=url64(raw))


def token_rule(name: str = "staff", **changes: Any) -> TokenCallers:
    fields: dict[str, Any] = {
        "issuer": "https://issuer.example",
        "audience": "tumours",
        "keys": (ed25519_key(),),
    }
    return TokenCallers(name=name, **{**fields, **changes})


def key_rule(name: str = "ada", **changes: Any) -> KeyCaller:
    return KeyCaller(name=name, **{"key": str(ADA), **changes})


def claims(*rules: CallerRule) -> list[str]:
    return [found.claim for found in judge_callers(rules)]


class TestTypes:
    """What is no rule does not parse: who cannot enforce it serves nobody."""

    def parse(self, *rules: object) -> tuple[CallerRule, ...]:
        document = msgspec.json.decode(json.dumps({**SAMPLE, "callers": rules}), type=ServiceDocument)
        return document.callers

    def refused(self, *rules: object) -> None:
        with pytest.raises(msgspec.ValidationError):
            self.parse(*rules)

    def test_anonymous(self) -> None:
        assert self.parse({"kind": "anonymous"}) == (AnonymousCallers(),)

    def test_the_former_form_is_refused(self) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps({**SAMPLE, "callers": "anonymous"}), type=ServiceDocument)

    def test_a_rule_keeps_what_it_says(self) -> None:
        rule = token_rule(
            claims=(RequiredClaim(claim="groups", values=("radiology",)),),
            roles=("infer", "models"),
            rate=RateLimit(per_s=0.5, burst=3),
            max_lifetime_s=600,
        )
        assert self.parse(msgspec.to_builtins(rule), msgspec.to_builtins(key_rule())) == (rule, key_rule())

    def test_defaults(self) -> None:
        rule = token_rule()
        assert (rule.roles, rule.rate, rule.claims, rule.max_lifetime_s) == (("infer",), None, (), 86_400)

    def test_none_at_all(self) -> None:
        self.refused()

    def test_too_many(self) -> None:
        rules = [{"kind": "key", "name": f"caller-{n}", "key": str(ADA)} for n in range(65)]
        assert len(self.parse(*rules[:64])) == 64
        self.refused(*rules)

    def test_an_unknown_kind(self) -> None:
        self.refused({"kind": "mtls", "name": "ada"})

    def test_an_unknown_field(self) -> None:
        self.refused({"kind": "anonymous", "roles": ["models"]})

    @pytest.mark.parametrize("name", ["", "Ada", "ada.", "..", "a/b", "аda", "ada\n", "-ada", "a" * 64])
    def test_names_are_plain_labels(self, name: str) -> None:
        self.refused({**msgspec.to_builtins(key_rule()), "name": name})

    @pytest.mark.parametrize("text", ["", "a b", 'a"b', "a\\b", "а", "a\n", "a" * 257])
    @pytest.mark.parametrize("field", ["issuer", "audience"])
    def test_issuers_and_audiences_are_printable(self, field: str, text: str) -> None:
        self.refused({**msgspec.to_builtins(token_rule()), field: text})

    @pytest.mark.parametrize("alg", ["none", "HS256", "HS512", "ES384", "RS512", "eddsa", ""])
    def test_no_other_algorithm(self, alg: str) -> None:
        key = {**msgspec.to_builtins(ed25519_key()), "alg": alg}
        self.refused({**msgspec.to_builtins(token_rule()), "keys": [key]})

    def test_no_symmetric_key(self) -> None:
        self.refused(
            {
                **msgspec.to_builtins(token_rule()),
                "keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": "x"}],
            }
        )

    def test_no_private_key(self) -> None:
        key = {**msgspec.to_builtins(ed25519_key()), "d": "A" * 43}
        self.refused({**msgspec.to_builtins(token_rule()), "keys": [key]})

    @pytest.mark.parametrize(
        "change",
        [
            {"keys": []},
            {"roles": []},
            {"roles": ["admin"]},
            {"max_lifetime_s": 59},
            {"max_lifetime_s": 604_801},
            {"claims": [{"claim": "groups", "values": []}]},
            {"claims": [{"claim": "groups", "values": [1]}]},
            {"rate": {"per_s": 0, "burst": 1}},
            {"rate": {"per_s": 1, "burst": 0}},
            {"rate": {"per_s": 1}},
        ],
    )
    def test_values_out_of_range(self, change: dict[str, Any]) -> None:
        self.refused({**msgspec.to_builtins(token_rule()), **change})

    def test_at_most_16_keys(self) -> None:
        keys = [msgspec.to_builtins(ed25519_key(f"k{n}")) for n in range(17)]
        self.refused({**msgspec.to_builtins(token_rule()), "keys": keys})


class TestIssuerKeys:
    """An issuer's key is a key, and strong enough."""

    def test_ed25519(self) -> None:
        key = read_issuer_key(ed25519_key())
        assert isinstance(key, Ed25519PublicKey)
        assert key.public_bytes_raw() == ADA.raw

    def test_p256(self) -> None:
        numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
        jwk = P256IssuerKey(
            kid="p",
            alg="ES256",
            crv="P-256",
            x=url64(numbers.x.to_bytes(32, "big")),
            y=url64(numbers.y.to_bytes(32, "big")),
        )
        read = read_issuer_key(jwk)
        assert not isinstance(read, Ed25519PublicKey)
        assert read.public_numbers() == numbers

    def test_a_point_off_the_curve(self) -> None:
        jwk = P256IssuerKey(
            kid="p", alg="ES256", crv="P-256", x=url64(bytes([1]) * 32), y=url64(bytes([1]) * 32)
        )
        with pytest.raises(ConfigurationError, match="key p: expected a public key of ES256"):
            read_issuer_key(jwk)

    def test_rsa(self) -> None:
        numbers = generate_rsa_key(65537, 2048).public_key().public_numbers()
        read = read_issuer_key(RSAIssuerKey(kid="r", alg="PS256", n=number(numbers.n), e="AQAB"))
        assert isinstance(read, RSAPublicKey)
        assert read.public_numbers() == numbers

    @pytest.mark.parametrize(
        ("bits", "exponent"), [(2047, "AQAB"), (2048, "Aw"), (2048, number(65539)), (8193, "AQAB")]
    )
    def test_weak_rsa(self, bits: int, exponent: str) -> None:
        modulus = number((1 << (bits - 1)) | 1)
        jwk: IssuerKey = RSAIssuerKey(kid="r", alg="RS256", n=modulus, e=exponent)
        with pytest.raises(ConfigurationError, match=f"2048 to 8192 bits.*got {bits} bits"):
            read_issuer_key(jwk)

    @pytest.mark.parametrize("x", [url64(bytes(32))[:-1] + "B", "A" * 41])
    def test_base64url_in_one_way_only(self, x: str) -> None:
        with pytest.raises(ConfigurationError, match="expected a public key"):
            read_issuer_key(Ed25519IssuerKey(kid="k", alg="EdDSA", crv="Ed25519", x=x))


class TestRules:
    """What several rules, each well-formed, must not say together."""

    def test_good_ones(self) -> None:
        assert claims(AnonymousCallers()) == []
        assert claims(key_rule(), key_rule("bo", key=str(BO)), token_rule(), token_rule("others")) == []

    def test_anonymous_stands_alone(self) -> None:
        assert claims(AnonymousCallers(), key_rule()) == ["callers"]
        assert claims(AnonymousCallers(), AnonymousCallers()) == ["callers"]

    def test_names_stand_once(self) -> None:
        assert claims(key_rule("staff"), token_rule("staff")) == ["callers: name"]

    def test_keys_stand_once(self) -> None:
        assert claims(key_rule("ada"), key_rule("other")) == ["callers: key"]

    def test_roles_stand_once(self) -> None:
        assert claims(key_rule(roles=("infer", "infer"))) == ["caller ada: role"]

    def test_claims_stand_once(self) -> None:
        twice = (RequiredClaim(claim="a", values=("x",)), RequiredClaim(claim="a", values=("y",)))
        assert claims(token_rule(claims=twice)) == ["caller staff: claim"]

    def test_key_ids_stand_once(self) -> None:
        rule = token_rule(keys=(ed25519_key(), ed25519_key()))
        assert claims(rule) == ["caller staff: kid"]

    def test_every_key_can_be_read(self) -> None:
        weak = RSAIssuerKey(kid="r", alg="RS256", n=number(1 << 2047), e="Aw")
        assert claims(token_rule(keys=(weak,))) == ["caller staff"]

    def test_a_key_id_of_an_issuer_means_one_key(self) -> None:
        other = token_rule("others", keys=(ed25519_key(raw=BO.raw),))
        assert claims(token_rule(), other) == ["caller others: kid one"]
        elsewhere = msgspec.structs.replace(other, issuer="https://elsewhere.example")
        assert claims(token_rule(), elsewhere) == []

    def test_everything_is_told_at_once(self) -> None:
        found = claims(key_rule(), key_rule(roles=("infer", "infer")))
        assert found == ["callers: name", "callers: key", "caller ada: role"]


class TestServices:
    """A service is judged with its rules."""

    async def test_rules_that_break_are_refused(self, world: World) -> None:
        await world.serve()
        sealed = world.sealed_identity()
        body = world.document(world.manifest(sealed), callers=(AnonymousCallers(), key_rule()))
        with pytest.raises(RefusedError) as refused:
            await world.service.control(world.message("services/tumours", 2, body, attachments=(sealed,)))
        assert [found.claim for found in refused.value.mismatches] == ["callers"]

    async def test_rules_reach_clients_and_model_servers(self, world: World) -> None:
        await world.serve()
        sealed = world.sealed_identity()
        rules = (key_rule(), token_rule())
        body = world.document(world.manifest(sealed), callers=rules)
        await world.service.control(world.message("services/tumours", 2, body, attachments=(sealed,)))
        session = world.session()
        assert session.open(await world.release(session)).release.callers == rules
        assert world.verify(await world.bundle()).callers == rules
