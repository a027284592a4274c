"""A replica answers joiners while it serves, and tells who joined before anything leaves."""

from dataclasses import dataclass, field

import pytest

from s3ml.attestation import Evidence, EvidenceRejectedError
from s3ml.keyservice.documents.joining import JoinReply
from s3ml.keyservice.errors import BusyError, ConflictError, RefusedError
from s3ml.keyservice.joining import JoinEndpoint, JoinSource, ServingStanding, VerifiedJoiner
from s3ml.keyservice.rates import Rate
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from tests.keyservice.keyservice_join_world import (
    CACHE,
    GENUINE,
    NEXT_POLICY,
    STRANGER,
    Deployment,
    Enclave,
    Exchange,
)
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE


@dataclass
class Replica:
    """One that serves until a test says otherwise."""

    deployment: Deployment = field(default_factory=lambda: Deployment("ours"))
    serves: int = 1000
    quotes: int = 0
    joined: list[str] = field(default_factory=list)
    fails: Exception | None = None

    def __post_init__(self) -> None:
        self.endpoint = JoinEndpoint(
            self.deployment.source,
            standing=self.standing,
            secrets=lambda: SecretBytes(self.deployment.secrets),
            quote=self.quote,
            clock=self.deployment.clock,
            cache=CACHE,
            record=self.record,
        )

    def standing(self) -> ServingStanding:
        self.serves -= 1
        if self.serves < 0:
            raise UnavailableError("key service: is recovering")
        return self.deployment.standing()

    async def quote(self, report_data: bytes) -> Evidence:
        self.quotes += 1
        return GENUINE.quote(report_data)

    async def record(self, joiner: VerifiedJoiner) -> None:
        if self.fails:
            raise self.fails
        self.joined.append(joiner.enclave.measurement)

    async def asked(self, enclave: Enclave = GENUINE) -> Exchange:
        exchange = Exchange(self.deployment, enclave)
        exchange.offer = await self.endpoint.offer(exchange.hello)
        exchange.request = self.deployment.answer(exchange.session, exchange.offer)
        return exchange


@pytest.fixture
def replica() -> Replica:
    return Replica()


class TestJoin:
    async def test_the_way(self, replica: Replica) -> None:
        exchange = await replica.asked()
        reply = await replica.endpoint.join(exchange.request)
        assert isinstance(reply, JoinReply)
        assert exchange.open(reply) == replica.deployment.secrets
        assert replica.joined == [KEY_SERVICE_CODE.hex()]

    async def test_a_stranger_costs_no_quote(self, replica: Replica) -> None:
        exchange = await replica.asked(STRANGER)
        with pytest.raises(EvidenceRejectedError, match="measurement"):
            await replica.endpoint.join(exchange.request)
        assert (replica.quotes, replica.joined) == (0, [])

    async def test_nothing_leaves_unrecorded(self, replica: Replica) -> None:
        replica.fails = UnavailableError("audit: full")
        with pytest.raises(UnavailableError, match="audit"):
            await replica.endpoint.join((await replica.asked()).request)
        assert replica.quotes == 0

    async def test_what_is_too_much_is_not_recorded(self, replica: Replica) -> None:
        """An entry of the log costs more than a quote: the rate comes before both."""
        replica.deployment.source = JoinSource(now_s=0.0, rate=Rate(per_s=1e-9, burst=1))
        replica.__post_init__()
        await replica.endpoint.join((await replica.asked()).request)
        with pytest.raises(BusyError, match="too many replicas join"):
            await replica.endpoint.join((await replica.asked()).request)
        assert (replica.quotes, len(replica.joined)) == (1, 1)


class TestServing:
    """A replica that does not serve neither offers nor seals, at whichever step it stopped."""

    async def test_it_offers_nothing(self, replica: Replica) -> None:
        replica.serves = 0
        with pytest.raises(UnavailableError, match="recovering"):
            await replica.asked()
        assert len(replica.deployment.source) == 0

    @pytest.mark.parametrize("steps", [0, 1])
    async def test_it_seals_nothing(self, replica: Replica, steps: int) -> None:
        """Not verifying anybody (0), or having stopped while somebody was verified and recorded (1)."""
        exchange = await replica.asked()
        replica.serves = steps
        with pytest.raises(UnavailableError, match="recovering"):
            await replica.endpoint.join(exchange.request)
        assert (replica.quotes, len(replica.joined)) == (0, steps)

    async def test_the_offer_is_used_up_all_the_same(self, replica: Replica) -> None:
        exchange = await replica.asked()
        replica.serves = 0
        with pytest.raises(UnavailableError):
            await replica.endpoint.join(exchange.request)
        replica.serves = 10
        with pytest.raises(RefusedError, match="nonce"):
            await replica.endpoint.join(exchange.request)

    async def test_a_policy_that_changed(self, replica: Replica) -> None:
        exchange = await replica.asked()
        replica.deployment.policy = NEXT_POLICY
        with pytest.raises(ConflictError, match="ask for another offer"):
            await replica.endpoint.join(exchange.request)
