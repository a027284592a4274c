"""The trust file: what it says is what is pinned, and every mistake is one line."""

import base64
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from s3ml.attestation.evidence import Tee
from s3ml.attestation.policy import Alternative, AppraisalPolicy, RuntimeEvent, SnpTcb
from s3ml.client.trust import Trust
from s3ml.primitives.errors import ConfigurationError
from tests.client.world import DEPLOYMENT, POLICY, TRUST

PINNED = f"""
version = 1
deployment = "{DEPLOYMENT}"
[key_service.policy]
[[key_service.policy.accept]]
tee = "sgx"
measurements = ["{"a1" * 32}"]
[services.tumours.policy]
[[services.tumours.policy.accept]]
tee = "sgx"
measurements = ["{"b2" * 32}"]
"""


def simulation_root() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Simulation")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


SIMULATED = AppraisalPolicy(
    accept=(Alternative(tee=Tee.SIMULATED, root=simulation_root(), measurements=("c3" * 32,)),)
)

GUESTS = AppraisalPolicy(
    accept=(
        Alternative(
            tee=Tee.TDX,
            measurements=("d4" * 48,),
            events=(RuntimeEvent(register=2, digest="e5" * 48), RuntimeEvent(register=3, digest="f6" * 48)),
        ),
        Alternative(
            tee=Tee.SEV_SNP, measurements=("d4" * 48,), min_tcb=SnpTcb(snp=23, microcode=213), allow_smt=True
        ),
    )
)


class TestContent:
    """What was written is read back, and looks as the documentation says."""

    @pytest.mark.parametrize(
        "trust",
        [
            TRUST,
            replace(TRUST, follow=None, services={"tumours": POLICY, "birds": POLICY}, max_age_s=60),
            replace(TRUST, key_service_policy=SIMULATED, allow_simulated=True, services={"a": SIMULATED}),
            replace(TRUST, services={"a": GUESTS}),
        ],
    )
    def test_round_trip(self, trust: Trust, tmp_path: Path) -> None:
        path = tmp_path / "trust.toml"
        trust.write(path)
        assert Trust.read(path) == trust

    def test_defaults(self) -> None:
        trust = Trust.parse(PINNED.encode())
        assert (trust.allow_simulated, trust.max_age_s, trust.follow) == (False, 600, None)
        assert set(trust.services) == {"tumours"}

    def test_its_shape_is_the_documented_one(self) -> None:
        trust = replace(TRUST, services={"tumours": POLICY})
        table = tomllib.loads(trust.to_toml().decode())
        assert set(table) == {
            "version",
            "deployment",
            "allow_simulated",
            "max_age_s",
            "follow",
            "key_service",
            "services",
        }
        assert table["services"]["tumours"]["policy"]["accept"][0]["tee"] == "sgx"

    def test_simulated_is_said_in_the_file(self) -> None:
        trust = replace(TRUST, key_service_policy=SIMULATED, allow_simulated=True)
        assert b"# SIMULATED: " in trust.to_toml()
        assert base64.b64encode(SIMULATED.accept[0].root or b"") in trust.to_toml()
        assert b"SIMULATED" not in TRUST.to_toml()

    def test_the_folder_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            TRUST.write(tmp_path / "missing" / "trust.toml")


class TestMistakes:
    """A trust file that is wrong is refused whole, in one line that names the place."""

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("version = 1", "version = 2", r"`\$.version`"),
            ("version = 1", "", "missing required field `version`"),
            ("version = 1", "version = 1\nfolow = 'owners'", "unknown field `folow`"),
            ("version = 1", "version = 1\nfollow = 'gateway'", r"`\$.follow`"),
            ("version = 1", "version = 1\nmax_age_s = 0", r"`\$.max_age_s`"),
            ("version = 1", "version = 1\nmax_age_s = 86401", r"`\$.max_age_s`"),
            ("version = 1", "version = 1\nmax_age_s = '600'", r"`\$.max_age_s`"),
            ("version = 1", "version = 1\nallow_simulated = 1", r"`\$.allow_simulated`"),
            (DEPLOYMENT, "D0" * 32, r"`\$.deployment`"),
            (DEPLOYMENT, DEPLOYMENT + "\\n", r"`\$.deployment`"),
            ("[services.tumours.policy]", "[services.tumours.polic]", "unknown field|missing required"),
            ('"sgx"', '"sgz"', "trust: key_service: policy: "),
            ("b2" * 32, "b2" * 31, "trust: services.tumours: policy: "),
            ("services.tumours", "services.Tumours", "trust: services: expected 1 to 63"),
            ("version = 1", "version = ", "trust: Invalid value"),
        ],
    )
    def test_refused(self, old: str, new: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message) as refused:
            Trust.parse(PINNED.replace(old, new).encode())
        assert "\n" not in str(refused.value)

    def test_an_empty_policy_accepts_nothing_and_is_refused(self) -> None:
        text = PINNED.partition("[services")[0] + "[services.tumours.policy]\naccept = []\n"
        with pytest.raises(ConfigurationError, match=r"services\.tumours: policy:"):
            Trust.parse(text.encode())

    def test_nothing_says_what_to_accept(self) -> None:
        with pytest.raises(ConfigurationError, match="got neither"):
            Trust.parse(PINNED.partition("[services")[0].encode())

    @pytest.mark.parametrize("place", ["key_service", "services.tumours"])
    def test_simulated_needs_leave(self, place: str) -> None:
        changes: dict[str, Any] = (
            {"key_service_policy": SIMULATED}
            if place == "key_service"
            else {"services": {"tumours": SIMULATED}}
        )
        with pytest.raises(ConfigurationError, match=f"{place}.policy: accepts a SIMULATED TEE"):
            replace(TRUST, **changes)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="No such file"):
            Trust.read(tmp_path / "trust.toml")

    def test_a_bad_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "trust.toml"
        path.write_text("version = 2")
        with pytest.raises(ConfigurationError, match=f"{path}: trust: "):
            Trust.read(path)

    def test_a_large_file(self) -> None:
        with pytest.raises(ConfigurationError, match="at most 1048576 bytes"):
            Trust.parse(b"#" * (1024 * 1024 + 1))

    @pytest.mark.parametrize(("field", "value"), [("deployment", "d0"), ("max_age_s", 0)])
    def test_values_are_checked_without_a_file_too(self, field: str, value: object) -> None:
        with pytest.raises(ConfigurationError, match="trust: "):
            replace(TRUST, **{field: value})  # type: ignore[arg-type]

    @given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
    def test_anything_is_accepted_or_refused(self, data: bytes) -> None:
        try:
            Trust.parse(data)
        except ConfigurationError as error:
            assert str(error).startswith("trust: ")

    @given(st.integers(0, len(PINNED) - 1), st.characters(codec="utf-8"))
    def test_one_changed_character_is_accepted_or_refused(self, position: int, character: str) -> None:
        try:
            Trust.parse((PINNED[:position] + character + PINNED[position + 1 :]).encode())
        except ConfigurationError as error:
            assert str(error)


class TestAnchor:
    """What a service is verified against is exactly what the file says."""

    def test_everything_is_passed_on(self) -> None:
        trust = replace(TRUST, max_age_s=60, services={"tumours": POLICY})
        anchor = trust.anchor("tumours", known=(5, bytes(32)))
        assert anchor.deployment == DEPLOYMENT
        assert anchor.key_service_policy == POLICY
        assert (anchor.allow_simulated, anchor.follow_owners, anchor.max_age_s) == (False, True, 60)
        assert dict(anchor.service_policies) == {"tumours": POLICY}
        assert anchor.known == (5, bytes(32))

    def test_a_service_that_nothing_covers_is_refused(self) -> None:
        trust = Trust.parse(PINNED.encode())
        assert trust.anchor("tumours").follow_owners is False
        with pytest.raises(ConfigurationError, match=r"expected \[services.birds.policy\]"):
            trust.anchor("birds")


class TestFollowingTheKeyService:
    """A client stays pinned to the key service's code, unless its trust file follows the owners."""

    def test_it_is_pinned_by_default(self) -> None:
        assert Trust.parse(TRUST.to_toml()).anchor("tumours").follow_key_service is False

    def test_it_follows_where_the_file_says_so(self) -> None:
        following = replace(TRUST, follow_key_service="owners")
        assert Trust.parse(following.to_toml()) == following
        assert following.anchor("tumours").follow_key_service is True

    def test_nobody_else_can_be_followed(self) -> None:
        text = replace(TRUST, follow_key_service="owners").to_toml().decode()
        with pytest.raises(ConfigurationError, match="follow"):
            Trust.parse(text.replace('follow = "owners"', 'follow = "gateway"').encode())
