"""An attacker who is the network: it drops, repeats, reorders, mixes and edits what anybody says.

Two deployments, honest joiners and joiners of the attacker's own code, one source each; the real code
throughout. Whatever the attacker does, a joiner opens only what the source of its own deployment sealed for
it in this very join, and a source seals only to a key that an enclave of the right code vouched for, once.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.joining import JoinSource
from s3ml.keyservice.joining.source import OFFERS
from s3ml.keyservice.joining.transcript import (
    join_info,
    joiner_binding,
    request_digest,
    source_binding,
)
from s3ml.keyservice.rates import Rate
from s3ml.primitives.errors import S3MLError
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, seal_once
from tests.clocks import FakeClock
from tests.keyservice.keyservice_join_world import (
    GENUINE,
    NEXT_POLICY,
    POLICY,
    STRANGER,
    Deployment,
    Enclave,
    Exchange,
)

ATTACKERS_SECRETS = b"keys that the attacker knows"
MINE = PrivateKey.generate(Kem.MLKEM768_X25519)
KINDS = st.sampled_from((None, JoinHello, JoinOffer, JoinRequest, JoinReply, object))
ATTACKS = st.sampled_from(("another", "field", "forge", "drop", "pass"))
edit: Any = msgspec.structs.replace


@dataclass
class Truth:
    """What an honest joiner truly said, which no message can change."""

    deployment: Deployment
    enclave: Enclave
    offer: JoinOffer
    request: JoinRequest


class TheNetworkIsHostile(RuleBasedStateMachine):
    """Every message passes through the attacker, who keeps all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.deployments = [Deployment(name, clock=self.clock) for name in ("ours", "theirs")]
        for one in self.deployments:
            one.source = JoinSource(now_s=self.clock.monotonic_s(), rate=Rate(per_s=1.0, burst=10**6))
        self.kind: type | None = None
        self.exchanges: list[Exchange] = []
        self.seen: dict[type, list[Any]] = {
            kind: [] for kind in (JoinHello, JoinOffer, JoinRequest, JoinReply)
        }
        self.truth: dict[bytes, Truth] = {}
        self.offered_at_s: dict[bytes, float] = {}
        self.used: set[bytes] = set()
        self.sealed: dict[tuple[str, bytes], set[bytes]] = {}

    # What the attacker does to a message.

    def heard(self, draw: Any, said: Any, exchange: Exchange) -> Any:
        """Return what arrives of `said`; nothing where the attacker keeps it."""
        pool = self.seen[type(said)]
        pool.append(said)
        attack = draw(ATTACKS) if self.kind is not None and isinstance(said, self.kind) else "pass"
        if attack == "drop":
            return None
        if attack == "forge":
            return self.forged(draw, said, exchange)
        other = draw(st.sampled_from(pool))
        if attack == "field":
            field = draw(st.sampled_from(said.__struct_fields__))
            return edit(said, **{field: getattr(other, field)})
        return said if attack == "pass" else other

    def forged(self, draw: Any, said: Any, exchange: Exchange) -> Any:
        """Put the attacker's own key, evidence or secrets in, all else as it has to be."""
        if isinstance(said, JoinHello):
            return edit(said, public_key=MINE.public)
        if isinstance(said, JoinOffer):
            other = draw(st.sampled_from(self.seen[JoinOffer]))
            return edit(other, nonce=said.nonce)
        if isinstance(said, JoinRequest):
            bound = joiner_binding(exchange.hello, exchange.offer).report_data()
            others = [*self.seen[JoinRequest], *self.seen[JoinReply]]
            theirs = draw(st.sampled_from(others)).evidence
            return edit(said, evidence=draw(st.sampled_from((STRANGER.evidence(bound), theirs))))
        key, offer, request = exchange.hello.public_key, exchange.offer, exchange.request
        info = join_info(request_digest(exchange.hello, offer, request))
        sealed = seal_once(HYBRID_AES256, key, ATTACKERS_SECRETS, info=info)
        bound = source_binding(exchange.hello, offer, request, sealed).report_data()
        reflected = request.evidence
        return JoinReply(
            sealed=sealed,
            evidence=draw(st.sampled_from((said.evidence, STRANGER.evidence(bound), reflected))),
        )

    # What honest replicas do with what arrives, and what has to hold then.

    def source_hears_hello(self, deployment: Deployment, hello: JoinHello) -> JoinOffer | None:
        try:
            offer = deployment.offer(hello)
        except S3MLError:
            return None
        self.offered_at_s[offer.nonce] = self.clock.monotonic_s()
        return offer

    def joiner_hears_offer(self, exchange: Exchange, offer: JoinOffer) -> JoinRequest | None:
        deployment = exchange.deployment
        try:
            request = deployment.answer(exchange.session, offer)
        except S3MLError:
            return None
        assert exchange.hello.public_key not in self.truth
        exchange.offer, exchange.request = offer, request
        self.truth[exchange.hello.public_key] = Truth(deployment, exchange.enclave, offer, request)
        return request

    def source_hears_request(self, deployment: Deployment, request: JoinRequest) -> JoinReply | None:
        found = deployment.source._open.get(request.nonce)
        try:
            reply = deployment.reply(request)
        except S3MLError:
            return None
        assert found is not None
        assert request.nonce not in self.used
        assert self.clock.monotonic_s() - self.offered_at_s[request.nonce] < 60
        key = found.hello.public_key
        assert key in self.truth
        truth = self.truth[key]
        assert truth.deployment is deployment
        assert truth.enclave == GENUINE
        assert truth.offer == found.offer
        self.used.add(request.nonce)
        self.sealed.setdefault((deployment.id, key), set()).add(reply.sealed)
        return reply

    def joiner_hears_reply(self, exchange: Exchange, reply: JoinReply) -> bool:
        try:
            opened = exchange.open(reply)
        except S3MLError:
            return False
        deployment, key = exchange.deployment, exchange.hello.public_key
        assert opened == deployment.secrets
        assert reply.sealed in self.sealed[deployment.id, key]
        return True

    # The rules.

    @rule(
        data=st.data(),
        kind=KINDS,
        ours=st.integers(0, 1),
        source=st.integers(0, 1),
        enclave=st.sampled_from((GENUINE, GENUINE, STRANGER)),
    )
    def a_replica_joins(self, data: Any, kind: type | None, ours: int, source: int, enclave: Enclave) -> None:
        """The attacker works on messages of one kind, or of all."""
        draw, self.kind = data.draw, kind
        exchange = Exchange(self.deployments[ours], enclave)
        self.exchanges.append(exchange)
        asked = self.deployments[source if draw(st.booleans()) else ours]
        hello = self.heard(draw, exchange.hello, exchange)
        offer = hello and self.source_hears_hello(asked, hello)
        offer = offer and self.heard(draw, offer, exchange)
        request = offer and self.joiner_hears_offer(exchange, offer)
        request = request and self.heard(draw, request, exchange)
        reply: Any = request and self.source_hears_request(asked, request)
        reply = reply and self.heard(draw, reply, exchange)
        if reply:
            self.joiner_hears_reply(exchange, reply)

    @precondition(lambda self: self.seen[JoinRequest])
    @rule(data=st.data(), which=st.integers(0, 1))
    def a_request_comes_late_or_again(self, data: Any, which: int) -> None:
        requests = self.seen[JoinRequest]
        held = [one for one in requests if one.nonce not in self.used]
        request = data.draw(st.sampled_from(held or requests) | st.sampled_from(requests))
        reply = self.source_hears_request(self.deployments[which], request)
        if reply is not None:
            self.seen[JoinReply].append(reply)

    @precondition(lambda self: self.seen[JoinOffer])
    @rule(data=st.data())
    def an_offer_comes_late_or_again(self, data: Any) -> None:
        exchange = data.draw(st.sampled_from(self.exchanges))
        request = self.joiner_hears_offer(exchange, data.draw(st.sampled_from(self.seen[JoinOffer])))
        if request is not None:
            self.seen[JoinRequest].append(request)

    @precondition(lambda self: self.seen[JoinReply])
    @rule(data=st.data())
    def a_reply_comes_late_or_again(self, data: Any) -> None:
        exchange = data.draw(st.sampled_from(self.exchanges))
        self.joiner_hears_reply(exchange, data.draw(st.sampled_from(self.seen[JoinReply])))

    @rule(seconds=st.sampled_from((1.0, 30.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1), size=st.integers(4, 6), policy=st.sampled_from((POLICY, NEXT_POLICY)))
    def the_log_moves(self, which: int, size: int, policy: bytes) -> None:
        self.deployments[which].size, self.deployments[which].policy = size, policy

    @rule(which=st.integers(0, 1))
    def a_replica_that_is_let_through_joins(self, which: int) -> None:
        """All of this keeps nobody from joining whom the attacker lets through."""
        exchange = Exchange(self.deployments[which])
        self.exchanges.append(exchange)
        offer = self.source_hears_hello(self.deployments[which], exchange.hello)
        assert offer is not None
        request = self.joiner_hears_offer(exchange, offer)
        assert request is not None
        reply = self.source_hears_request(self.deployments[which], request)
        assert reply is not None
        assert self.joiner_hears_reply(exchange, reply)
        for message in (exchange.hello, exchange.offer, exchange.request, reply):
            self.seen[type(message)].append(message)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert all(len(one.source) <= OFFERS for one in self.deployments)


TestTheNetworkIsHostile = TheNetworkIsHostile.TestCase
TestTheNetworkIsHostile.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
