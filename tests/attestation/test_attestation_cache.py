"""Verdicts are remembered so that nobody can tell, but by the time it takes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import (
    Collateral,
    Evidence,
    EvidenceMalformedError,
    EvidenceRejectedError,
    VerdictCache,
    VerifiedEnclave,
    verify_evidence,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify.cache import ENTRY_BYTES, Shelf
from s3ml.attestation.verify.intel import dcap
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World
from tests.attestation.tdx_world import TdxWorld

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECOND = timedelta(seconds=1)

_PKI = SimulatedPKI.create(CREATED)
WORLDS: dict[str, World] = {
    "sgx": World.honest(_PKI),
    "tdx 4": TdxWorld.honest(_PKI).with_policy_for_registers(),
    "tdx 5": TdxWorld.honest(_PKI).with_report_15(),
}


@pytest.fixture(params=WORLDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def any_world(name: str) -> World:
    return WORLDS[name]


def outcome(
    world: World, evidence: Evidence | None = None, cache: VerdictCache | None = None
) -> tuple[object, ...]:
    """Return everything that a caller can see of a verification."""
    try:
        enclave = verify_evidence(
            evidence or world.evidence,
            world.policy,
            report_data=world.report_data,
            now=world.now,
            cache=cache,
        )
    except EvidenceRejectedError as rejected:
        return "rejected", rejected.mismatches, rejected.steps
    except EvidenceMalformedError as malformed:
        return "malformed", str(malformed)
    return "accepted", enclave, enclave.steps


def warm(*worlds: World) -> VerdictCache:
    """Return a cache that has seen `worlds`."""
    cache = VerdictCache()
    for world in worlds:
        assert outcome(world, cache=cache)[0] == "accepted"
    return cache


def flipped(data: bytes, position: int, mask: int = 0x01) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def with_quote(world: World, quote: bytes) -> Evidence:
    return msgspec.structs.replace(world.evidence, quote=quote)


def signature_start(quote: bytes) -> int:
    """Return where the signature of a quote begins: after header, body and its length."""
    match quote[0]:
        case 3:
            return 48 + 384 + 4
        case 4:
            return 48 + 584 + 4
    return 54 + int.from_bytes(quote[50:54], "little") + 4


def with_collateral(world: World, **changes: Any) -> Evidence:
    assert world.collateral is not None
    collateral = msgspec.structs.replace(world.collateral, **changes)
    return msgspec.structs.replace(world.evidence, collateral=collateral)


def twin(quote: bytes, position: int) -> bytes:
    """Replace the s of the signature at `position` by the other one that verifies."""
    s = int.from_bytes(quote[position + 32 : position + 64])
    return quote[: position + 32] + (P256_ORDER - s).to_bytes(32) + quote[position + 64 :]


def rewrap(world: World, rewrite: Callable[[bytes], bytes]) -> bytes:
    """Rewrite the PEM chain in a quote, and every length that it changes."""
    pki, quote = world.pki, world.quote
    chain = pki.pck.pem + pki.pck_ca.pem + pki.root.pem
    old = chain.encode("ascii")
    head, new = quote[: -len(old)], rewrite(old)
    start = signature_start(quote)
    sizes = [len(head) - 4, start - 4]
    if quote[0] != 3:
        sizes.append(start + 64 + 64 + 2)
    for position in sizes:
        size = int.from_bytes(head[position : position + 4], "little") + len(new) - len(old)
        head = head[:position] + size.to_bytes(4, "little") + head[position + 4 :]
    return head + new


def one_line(pem: bytes) -> bytes:
    """Write the base64 of each certificate as one line."""
    blocks = pem.split(b"-----END CERTIFICATE-----\n")[:-1]
    begin = b"-----BEGIN CERTIFICATE-----\n"
    lines = [block.removeprefix(begin).replace(b"\n", b"") for block in blocks]
    return b"".join(begin + line + b"\n-----END CERTIFICATE-----\n" for line in lines)


REWRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "no end of the last line": lambda pem: pem[:-1],
    "a NUL at its end": lambda pem: pem + b"\x00",
    "one line each": one_line,
    "blank lines": lambda pem: pem.replace(b"MII", b"MI\n\nI"),
    "blank lines with CRLF": lambda pem: pem.replace(b"MII", b"MI\r\n\r\nI"),
}


class TestMalleability:
    """A quote that somebody wrote differently proves the same, and is remembered as the same."""

    @pytest.mark.parametrize("rewritten", REWRITTEN)
    def test_other_line_ends_share_the_verdict(self, any_world: World, rewritten: str) -> None:
        evidence = with_quote(any_world, rewrap(any_world, REWRITTEN[rewritten]))
        assert evidence.quote != any_world.quote
        cache = warm(any_world)
        first = outcome(any_world, evidence)
        assert first[0] == "accepted"
        assert outcome(any_world, evidence, cache) == first
        assert (len(cache.wholes), len(cache.platforms)) == (1, 1)

    @pytest.mark.parametrize("rewritten", REWRITTEN)
    def test_they_do_not_poison_it_either(self, any_world: World, rewritten: str) -> None:
        """Whoever comes first with another writing changes nothing for the honest one."""
        cache, evidence = VerdictCache(), with_quote(any_world, rewrap(any_world, REWRITTEN[rewritten]))
        outcome(any_world, evidence, cache)
        assert outcome(any_world, cache=cache) == outcome(any_world)
        assert (len(cache.wholes), len(cache.platforms)) == (1, 1)

    def test_the_twin_of_each_signature_shares_the_verdict(self, name: str, any_world: World) -> None:
        cache, quote = warm(any_world), any_world.quote
        start = signature_start(quote)
        report_signature = start + 128 + 384 + (0 if name == "sgx" else 6)
        for twisted in (
            twin(quote, start),
            twin(quote, report_signature),
            twin(twin(quote, start), report_signature),
        ):
            evidence = with_quote(any_world, twisted)
            assert outcome(any_world, evidence)[0] == "accepted"
            assert outcome(any_world, evidence, cache) == outcome(any_world, evidence)
        assert (len(cache.wholes), len(cache.platforms)) == (1, 1)

    def test_collateral_can_be_written_differently_too(self, any_world: World) -> None:
        cache, collateral = warm(any_world), any_world.collateral
        assert collateral is not None
        signature = collateral.tcb_info_signature
        evidence = with_collateral(
            any_world,
            tcb_info_issuer_chain=collateral.tcb_info_issuer_chain.replace("\n", "\r\n"),
            pck_crl_issuer_chain=collateral.pck_crl_issuer_chain[:-1],
            tcb_info_signature=twin(signature, 0),
        )
        assert outcome(any_world, evidence, cache) == outcome(any_world, evidence)
        assert (len(cache.wholes), len(cache.platforms)) == (1, 1)

    @pytest.mark.parametrize("s", [0, P256_ORDER, 2**256 - 1])
    def test_an_s_out_of_range_stays_a_broken_signature(self, name: str, any_world: World, s: int) -> None:
        start = signature_start(any_world.quote) + 32
        quote = any_world.quote[:start] + s.to_bytes(32) + any_world.quote[start + 32 :]
        told = outcome(any_world, with_quote(any_world, quote), warm(any_world))
        assert told[0] == "rejected"
        assert told == outcome(any_world, with_quote(any_world, quote))


class TestTransparency:
    """With any cache, evidence has the outcome that it has without one."""

    def test_every_changed_byte_before_the_certificates(self, name: str, any_world: World) -> None:
        cache = warm(any_world)
        stride = 1 if name == "sgx" else 3
        for position in range(0, len(any_world.quote) - chain_bytes(any_world), stride):
            evidence = with_quote(any_world, flipped(any_world.quote, position, 0x80))
            told = outcome(any_world, evidence, cache)
            assert told[0] != "accepted", position
            if position % 5 == 0:
                assert told == outcome(any_world, evidence), position
        assert (len(cache.wholes), len(cache.platforms)) == (1, 1)

    def test_changed_bytes_of_the_certificates(self, any_world: World) -> None:
        cache, end = warm(any_world), len(any_world.quote)
        for position in range(end - chain_bytes(any_world), end, 13):
            for change in (flipped(any_world.quote, position), flipped(any_world.quote, position, 0x40)):
                evidence = with_quote(any_world, change)
                assert outcome(any_world, evidence, cache) == outcome(any_world, evidence), position

    @pytest.mark.parametrize("field", Collateral.__struct_fields__)
    def test_changed_bytes_of_collateral(self, field: str) -> None:
        world = WORLDS["tdx 4"]
        value, cache = getattr(world.collateral, field), warm(world)
        data = value.encode("latin-1") if isinstance(value, str) else value
        for position in range(0, len(data), max(1, len(data) // 23)):
            changed = flipped(data, position)
            part = changed.decode("latin-1") if isinstance(value, str) else changed
            evidence = with_collateral(world, **{field: part})
            assert outcome(world, evidence, cache) == outcome(world, evidence), position

    def test_an_event_log_that_is_not_there_any_more(self) -> None:
        world = WORLDS["tdx 4"]
        for log in (None, b"", b"\x00" * 64, world.with_(event_log=world.event_log).event_log):
            evidence = msgspec.structs.replace(world.evidence, event_log=log)
            assert outcome(world, evidence, warm(world)) == outcome(world, evidence)

    def test_what_belongs_to_another_vendor(self, any_world: World) -> None:
        certificates = {"chain": "-----BEGIN"}
        evidence = msgspec.convert(
            msgspec.to_builtins(any_world.evidence) | {"certificates": certificates}, Evidence
        )
        told = outcome(any_world, evidence, warm(any_world))
        assert told == outcome(any_world, evidence)
        assert told[0] == "rejected"

    def test_without_collateral(self, any_world: World) -> None:
        bare = any_world.with_(collateral=None)
        assert outcome(bare, cache=warm(any_world)) == outcome(bare)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_whatever_comes_in_whatever_order_at_whatever_time(self, data: st.DataObject) -> None:
        """One small cache sees honest, malleated and broken evidence of several worlds and times."""
        cache = VerdictCache(max_entries=2)
        for _ in range(data.draw(st.integers(2, 6))):
            step = data.draw(STEPS)
            assert outcome(step.world, step.evidence, cache) == outcome(step.world, step.evidence)


def requoted(world: World) -> World:
    """Have the same platform quote the same enclave for another request."""
    if isinstance(world, TdxWorld) and world.version == 5:
        return world.with_report_15(report_data=bytes(64))
    return world.with_quote(report_data=bytes(64))


def chain_bytes(world: World) -> int:
    return len(world.pki.pck.pem + world.pki.pck_ca.pem + world.pki.root.pem)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One verification of a sequence."""

    world: World
    evidence: Evidence


@st.composite
def steps(draw: st.DrawFn) -> Step:
    world = WORLDS[draw(st.sampled_from(sorted(WORLDS)))]
    changes: dict[str, Any] = {"report_data": draw(st.sampled_from([world.report_data, bytes(64)]))}
    collateral = world.collateral
    assert collateral is not None
    instants = [NOW, CREATED, ISSUED - SECOND, ISSUED, NOW + timedelta(days=29), NOW + timedelta(days=31)]
    changes["now"] = draw(st.sampled_from(instants))
    if draw(st.booleans()):
        world = requoted(world)
    quote = world.quote
    kind = draw(st.sampled_from(["honest", "line ends", "byte", "byte", "cut"]))
    if kind == "line ends":
        quote = rewrap(world, REWRITTEN[draw(st.sampled_from(sorted(REWRITTEN)))])
    elif kind == "byte":
        position = draw(st.integers(0, len(quote) - 1))
        quote = flipped(quote, position, draw(st.integers(1, 255)))
    elif kind == "cut":
        quote = quote[: draw(st.integers(1, len(quote)))]
    return Step(world=world.with_(**changes), evidence=with_quote(world, quote))


STEPS = steps()


class TestNeverRemembered:
    """What a policy, a request or the time decides is decided anew each time."""

    def test_the_policy(self, any_world: World) -> None:
        strict = any_world.with_policy(measurements=("0" * len(any_world.verify().measurement),))
        assert outcome(strict, any_world.evidence, warm(any_world))[0] == "rejected"

    def test_the_report_data(self, any_world: World) -> None:
        other = any_world.with_(report_data=bytes(64))
        told = outcome(other, any_world.evidence, warm(any_world))
        assert told == outcome(other, any_world.evidence)
        assert told[0] == "rejected"

    def test_the_age_of_collateral(self, any_world: World) -> None:
        young = any_world.with_policy(max_collateral_age_s=7200).with_(now=NOW + timedelta(hours=2))
        told = outcome(young, cache=warm(any_world))
        assert told == outcome(young)
        assert told[0] == "rejected"

    def test_the_root(self, any_world: World) -> None:
        """What is proved under one root proves nothing to who trusts another."""
        stranger = SimulatedPKI.create(CREATED)
        other = any_world.with_policy(root=stranger.root_der)
        told = outcome(other, cache=warm(any_world))
        assert told == outcome(other)
        assert told[0] == "rejected"

    def test_a_rejection(self, name: str, any_world: World) -> None:
        cache = VerdictCache()
        for position in (signature_start(any_world.quote), 100):
            outcome(any_world, with_quote(any_world, flipped(any_world.quote, position)), cache)
        assert (len(cache.wholes), len(cache.platforms)) == (0, 0)

    def test_what_only_the_policy_rejected_was_proved(self, any_world: World) -> None:
        cache = VerdictCache()
        outcome(any_world.with_(report_data=bytes(64)), any_world.evidence, cache)
        assert (len(cache.wholes), len(cache.platforms)) == (1, 1)


class TestValidity:
    """What was proved counts while all of it is valid, and in no other second."""

    @pytest.mark.parametrize("before_end", [SECOND, timedelta(0), -SECOND])
    def test_the_end(self, any_world: World, before_end: timedelta) -> None:
        end = ISSUED + timedelta(days=30)
        late = any_world.with_(now=end - before_end)
        cache = warm(any_world)
        assert outcome(late, cache=cache) == outcome(late)

    @pytest.mark.parametrize("after", [-SECOND, timedelta(0), SECOND])
    def test_the_beginning(self, any_world: World, after: timedelta) -> None:
        early = any_world.with_(now=ISSUED + after)
        assert outcome(early, cache=warm(any_world)) == outcome(early)

    @pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
    @pytest.mark.parametrize("after_ms", [-600, -1, 0, 1, 499, 500, 1500])
    def test_a_fraction_of_a_second(self, after_ms: int, name: str) -> None:
        """dcap-qvl counts whole seconds, and so does what is remembered."""
        issued = ISSUED + timedelta(milliseconds=500)

        def date(document: dict[str, Any]) -> None:
            document["issueDate"] = issued.isoformat().replace("+00:00", "Z")

        world = WORLDS["sgx"].with_document(name, date)
        then = world.with_(now=issued + timedelta(milliseconds=after_ms))
        assert outcome(then, cache=warm(world)) == outcome(then)

    def test_an_expired_verdict_makes_room(self, any_world: World) -> None:
        cache = warm(any_world)
        outcome(any_world.with_(now=NOW + timedelta(days=31)), cache=cache)
        assert (len(cache.wholes), len(cache.platforms)) == (0, 0)


class TestWork:
    """What is remembered is not checked again; what is new is."""

    @pytest.fixture
    def proofs(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What was asked of dcap-qvl and of the attestation key, in order."""
        done: list[str] = []
        for function in ("_verify", "is_signed_by_point"):
            original = getattr(dcap, function)

            def call(*args: Any, function: str = function, original: Any = original) -> Any:
                done.append(function)
                return original(*args)

            monkeypatch.setattr(dcap, function, call)
        return done

    def test_the_same_quote_costs_no_signature(self, any_world: World, proofs: list[str]) -> None:
        cache = warm(any_world)
        proofs.clear()
        assert outcome(any_world, cache=cache)[0] == "accepted"
        assert proofs == []

    def test_a_fresh_quote_of_a_known_platform_costs_one(self, any_world: World, proofs: list[str]) -> None:
        cache = warm(any_world)
        proofs.clear()
        fresh = requoted(any_world).with_(report_data=bytes(64))
        told = outcome(fresh, cache=cache)
        assert proofs == ["is_signed_by_point"]
        assert told == outcome(fresh)
        assert told[0] == "accepted"
        assert (len(cache.wholes), len(cache.platforms)) == (2, 1)

    def test_a_forged_quote_of_a_known_platform_is_checked_whole(
        self, any_world: World, proofs: list[str]
    ) -> None:
        cache = warm(any_world)
        proofs.clear()
        position = any_world.quote.index(any_world.report_data)
        forged = with_quote(any_world, flipped(any_world.quote, position))
        told = outcome(any_world, forged, cache)
        assert proofs == ["is_signed_by_point", "_verify"]
        assert told == outcome(any_world, forged)
        assert told[0] == "rejected"

    def test_an_enclave_in_debug_mode_on_a_known_platform_is_rejected(self, any_world: World) -> None:
        debug = any_world.with_quote(flags=3 if type(any_world) is World else 1)
        told = outcome(debug, cache=warm(any_world))
        assert told == outcome(debug)
        assert told[0] == "rejected"

    @pytest.mark.parametrize("field", ["tcb_svn", "module_measurement", "xfam", "flags"])
    def test_what_may_decide_over_a_domains_platform_makes_another(
        self, field: str, proofs: list[str]
    ) -> None:
        world = WORLDS["tdx 4"]
        cache = warm(world)
        proofs.clear()
        changes = {
            "tcb_svn": bytes([255] * 16),
            "module_measurement": bytes(48),
            "xfam": 3,
            "flags": 1 << 28 | 1 << 30,
        }
        changed = world.with_quote(**{field: changes[field]})
        assert outcome(changed, cache=cache) == outcome(changed)
        assert proofs[0] == "_verify"

    def test_no_lock_is_held_meanwhile(self, any_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another thread gets its verdict while this one is in the middle of a verification."""
        cache, original, told = VerdictCache(), dcap._verify, []

        def verify(*args: Any) -> Any:
            monkeypatch.setattr(dcap, "_verify", original)
            with ThreadPoolExecutor(max_workers=1) as pool:
                told.append(pool.submit(outcome, any_world, None, cache).result(timeout=300))
            return original(*args)

        monkeypatch.setattr(dcap, "_verify", verify)
        assert [outcome(any_world, cache=cache)] == told
        assert told[0][0] == "accepted"

    def test_many_threads_share_one(self) -> None:
        cache = VerdictCache(max_entries=2)
        expected = {name: outcome(world) for name, world in WORLDS.items()}
        names = [*WORLDS, *WORLDS, *reversed(WORLDS)] * 7
        with ThreadPoolExecutor(max_workers=4) as pool:
            told = list(pool.map(lambda name: outcome(WORLDS[name], cache=cache), names))
        assert told == [expected[name] for name in names]


@dataclass(frozen=True, kw_only=True)
class Proved:
    """Something dated."""

    valid_from: datetime = ISSUED
    valid_until: datetime = NOW + SECOND


class TestShelf:
    """It keeps what was used last, within its limits."""

    def test_the_least_recently_used_goes_first(self) -> None:
        shelf = Shelf(max_entries=2, max_bytes=2**20)
        for key in (b"a", b"b"):
            shelf.keep(key, Proved())
        assert shelf.recall(b"a", Proved, now=NOW)
        shelf.keep(b"c", Proved())
        kept = [key for key in (b"a", b"b", b"c") if shelf.recall(key, Proved, now=NOW)]
        assert kept == [b"a", b"c"]
        assert len(shelf) == 2

    def test_bytes_are_a_limit_too(self) -> None:
        shelf = Shelf(max_entries=100, max_bytes=3 * ENTRY_BYTES)
        for key in (b"a", b"b", b"c"):
            shelf.keep(key, Proved())
        assert len(shelf) == 3
        shelf.keep(b"d", Proved(), size_bytes=1)
        assert len(shelf) == 2
        assert shelf.size_bytes == 2 * ENTRY_BYTES + 1

    def test_what_is_too_large_alone_is_not_kept(self) -> None:
        shelf = Shelf(max_entries=100, max_bytes=ENTRY_BYTES)
        shelf.keep(b"a", Proved(), size_bytes=1)
        assert (len(shelf), shelf.size_bytes) == (0, 0)

    def test_the_same_key_counts_once(self) -> None:
        shelf = Shelf(max_entries=100, max_bytes=2**20)
        shelf.keep(b"a", Proved(), size_bytes=100)
        shelf.keep(b"a", Proved())
        assert (len(shelf), shelf.size_bytes) == (1, ENTRY_BYTES)

    def test_what_has_expired_goes(self) -> None:
        shelf = Shelf(max_entries=100, max_bytes=2**20)
        shelf.keep(b"a", Proved())
        assert shelf.recall(b"a", Proved, now=NOW + SECOND) is None
        assert (len(shelf), shelf.size_bytes) == (0, 0)

    def test_what_is_not_yet_valid_waits(self) -> None:
        shelf = Shelf(max_entries=100, max_bytes=2**20)
        shelf.keep(b"a", Proved())
        assert shelf.recall(b"a", Proved, now=ISSUED - SECOND) is None
        assert shelf.recall(b"a", Proved, now=ISSUED) == Proved()

    def test_another_kind_is_nothing(self) -> None:
        @dataclass(frozen=True, kw_only=True)
        class Other(Proved):
            """Something else."""

        shelf = Shelf(max_entries=100, max_bytes=2**20)
        shelf.keep(b"a", Proved())
        assert shelf.recall(b"a", Other, now=NOW) is None

    @pytest.mark.parametrize("limits", [{"max_entries": 0}, {"max_bytes": 0}])
    def test_a_cache_of_nothing_is_a_mistake(self, limits: dict[str, int]) -> None:
        with pytest.raises(ConfigurationError, match="expected limits of at least 1"):
            VerdictCache(**limits)

    def test_verified_enclaves_are_no_part_of_it(self, any_world: World) -> None:
        """A caller gets a fresh object each time, told for its own evidence."""
        cache = warm(any_world)
        first, second = (outcome(any_world, cache=cache)[1] for _ in range(2))
        assert isinstance(first, VerifiedEnclave)
        assert first is not second
