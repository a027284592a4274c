"""Who may call: decided inside the TEE, refused sealed and alike."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from s3ml.keyservice.documents import AnonymousCallers, CallerRule, RateLimit
from s3ml.modelserver.app import OFF_LOOP_BYTES
from s3ml.modelserver.callers import Gate
from s3ml.modelserver.lease import Outcome
from s3ml.modelserver.metrics import LEAST_ANSWERS
from s3ml.modelserver.timing import Timing
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.wire.ohttp import KeyConfig
from s3ml.wire.sealed import InnerRequest, InnerResponse, RequestSigner, seal_request
from tests.modelserver.callers_world import ADA, BO, ED25519, OTHER_ED25519, jwk, key_caller, staff, token
from tests.modelserver.conftest import DEPLOYMENT, START, Replica, World, linear

METADATA = InnerRequest(method="GET", path="/v2/models/tumours")
INFER = InnerRequest(
    method="POST",
    path="/v2/models/tumours/infer",
    fields=(("content-type", "application/json"),),
    content=json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    ).encode(),
)
Serve = Callable[..., Awaitable[Replica]]


@pytest.fixture
def serve(world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Return a function that lets the replica serve under the given rules."""
    world.publish(linear())
    replica.config = world.begin_epoch()
    release = world.release

    async def start(*rules: CallerRule) -> Replica:
        monkeypatch.setattr(world, "release", lambda **changes: release(callers=rules, **changes))
        return await replica.enrol()

    return start


def signer(key: SigningKey = ADA, *, deployment: str = DEPLOYMENT, service: str = "tumours") -> RequestSigner:
    return RequestSigner(key=key, deployment=deployment, service=service)


def bearing(text: str, request: InnerRequest = INFER, scheme: str = "Bearer") -> InnerRequest:
    return replace(request, fields=(*request.fields, ("authorization", f"{scheme} {text}")))


async def ask(
    replica: Replica,
    request: InnerRequest = INFER,
    *,
    by: RequestSigner | None = None,
    config: KeyConfig | None = None,
) -> InnerResponse:
    """Seal a request, send it, and open the answer; outside, everything looks like success."""
    chosen = config or replica.config
    assert chosen is not None
    sealed = seal_request(chosen, request, date=replica.clock.now(), signer=by)
    reply = await replica.post(sealed.body)
    assert (reply.status, reply.headers["content-type"]) == (200, "message/ohttp-res")
    return sealed.open_response(reply.body)


async def status(replica: Replica, request: InnerRequest = INFER, **how: Any) -> int:
    return (await ask(replica, request, **how)).status


class TestAnonymous:
    """Where anybody may call, nobody is asked."""

    async def test_anybody(self, serve: Serve) -> None:
        replica = await serve(AnonymousCallers())
        assert await status(replica) == 200

    async def test_credentials_are_not_looked_at(self, serve: Serve) -> None:
        replica = await serve(AnonymousCallers())
        assert await status(replica, bearing("nonsense")) == 200
        assert await status(replica, by=signer(service="other")) == 200

    async def test_all_share_one_rate(self, serve: Serve) -> None:
        replica = await serve(AnonymousCallers(rate=RateLimit(per_s=0.01, burst=2)))
        assert [await status(replica) for _ in range(3)] == [200, 200, 429]


class TestKeys:
    """A caller's key signs each request."""

    async def test_a_named_key(self, serve: Serve) -> None:
        replica = await serve(key_caller(), key_caller("bo", BO))
        assert await status(replica, by=signer()) == 200
        assert await status(replica, by=signer(BO)) == 200
        assert await status(replica, METADATA, by=signer()) == 200

    async def test_a_key_that_nobody_named(self, serve: Serve) -> None:
        replica = await serve(key_caller())
        assert await status(replica, by=signer(BO)) == 401

    async def test_nothing(self, serve: Serve) -> None:
        assert await status(await serve(key_caller())) == 401

    @pytest.mark.parametrize("by", [signer(service="tumors"), signer(deployment="e0" * 32)])
    async def test_a_proof_for_elsewhere(self, serve: Serve, by: RequestSigner) -> None:
        assert await status(await serve(key_caller()), by=by) == 401

    async def test_a_proof_of_another_epoch(self, serve: Serve, world: World) -> None:
        """A proof that was sealed to one epoch's key, taken out and sealed to the next one's."""
        replica = await serve(key_caller())
        taken = await self.taken(replica)
        later = world.begin_epoch(2, first_id=3)
        await replica.enrol()
        assert await status(replica, by=signer(), config=later) == 200
        assert await status(replica, bearing(taken, scheme="S3ML-Proof"), config=later) == 401

    async def test_a_proof_of_another_request(self, serve: Serve) -> None:
        replica = await serve(key_caller())
        taken = await self.taken(replica)
        assert await status(replica, bearing(taken, scheme="S3ML-Proof")) == 401

    async def taken(self, replica: Replica) -> str:
        """Return the proof of a request, as whoever opens it sees it."""
        seen: list[InnerRequest] = []
        infer = replica.app._inference.answer

        async def answer(route: Any, request: InnerRequest, timing: Timing) -> InnerResponse:
            seen.append(request)
            return await infer(route, request, timing)

        object.__setattr__(replica.app, "_inference", type("Spy", (), {"answer": staticmethod(answer)})())
        assert await status(replica, by=signer()) == 200
        return (seen[0].field("authorization") or "").partition(" ")[2]

    async def test_a_replay_is_one(self, serve: Serve) -> None:
        replica = await serve(key_caller())
        assert replica.config is not None
        sealed = seal_request(replica.config, INFER, date=replica.clock.now(), signer=signer())
        answers = [sealed.open_response((await replica.post(sealed.body)).body).status for _ in range(2)]
        assert answers == [200, 409]

    async def test_a_large_request_leaves_the_event_loop_with_its_proof(self, serve: Serve) -> None:
        replica = await serve(key_caller())
        object.__setattr__(replica.app, "_limits", replace(replica.app._limits, max_request_bytes=1 << 24))
        request = replace(INFER, content=bytes(OFF_LOOP_BYTES))
        assert await status(replica, request, by=signer()) == 400
        assert await status(replica, request, by=signer(BO)) == 401


class TestTokens:
    """A token is enough by itself; the seal protects it."""

    async def test_a_token(self, serve: Serve) -> None:
        replica = await serve(staff())
        for scheme in ("Bearer", "bearer", "BEARER"):
            assert await status(replica, bearing(token(), scheme=scheme)) == 200

    @pytest.mark.parametrize(
        "text",
        [token(exp=0), token(aud="other"), token(private=OTHER_ED25519), "nonsense", token() + "."],
    )
    async def test_one_that_is_not_admitted(self, serve: Serve, text: str) -> None:
        assert await status(await serve(staff()), bearing(text)) == 401

    async def test_a_host_that_turns_its_clock_back_revives_no_token(
        self, serve: Serve, world: World
    ) -> None:
        """The release that the replica holds was issued after the token had expired."""
        replica = await serve(staff())
        replica.clock.elapsed_s = -3600.0
        expired = token(exp=START.timestamp() - 120, iat=START.timestamp() - 5000, nbf=None)
        assert await status(replica, bearing(expired)) == 401
        assert await status(replica, bearing(token(iat=None, nbf=None))) == 200

    async def test_rules_are_tried_in_order_until_one_gives_the_role(self, serve: Serve) -> None:
        replica = await serve(staff("loaders", roles=("models",)), staff("callers"))
        assert await status(replica, bearing(token())) == 200

    async def test_keys_and_tokens_side_by_side(self, serve: Serve) -> None:
        replica = await serve(key_caller(), staff())
        assert await status(replica, by=signer()) == 200
        assert await status(replica, bearing(token())) == 200
        assert await status(replica, bearing(token(), scheme="S3ML-Proof")) == 401
        assert await status(replica, bearing("x", scheme="Basic")) == 401


class TestRefusals:
    """One answer for everything that is not admitted."""

    async def test_it_says_what_to_bring_and_not_what_was_wrong(self, serve: Serve) -> None:
        replica = await serve(key_caller(), staff())
        refused = [
            await ask(replica),
            await ask(replica, bearing(token(exp=0))),
            await ask(replica, bearing(token(aud="x"))),
            await ask(replica, bearing("x" * 9000)),
            await ask(replica, by=signer(BO)),
            await ask(replica, by=signer(service="x")),
            await ask(replica, METADATA),
            await ask(replica, InnerRequest(method="GET", path="/v2/no/such/path")),
            await ask(replica, replace(METADATA, path="/v2/models/none")),
        ]
        assert {bytes(answer.content) for answer in refused} == {
            b'{"error":"caller: expected credentials that this service admits"}'
        }
        assert {(answer.status, answer.field("www-authenticate")) for answer in refused} == {
            (401, "Bearer, S3ML-Proof")
        }

    @pytest.mark.parametrize(("rule", "expected"), [(staff(), "Bearer"), (key_caller(), "S3ML-Proof")])
    async def test_it_names_the_schemes_that_are_admitted(
        self, serve: Serve, rule: CallerRule, expected: str
    ) -> None:
        assert (await ask(await serve(rule))).field("www-authenticate") == expected

    async def test_strangers_do_not_fill_the_memory_against_replays(self, serve: Serve) -> None:
        replica = await serve(key_caller())
        for _ in range(5):
            await ask(replica)
            await ask(replica, by=signer(BO))
        assert len(replica.app._replays) == 0
        await ask(replica, by=signer())
        assert len(replica.app._replays) == 1

    async def test_nor_do_callers_who_call_too_often(self, serve: Serve) -> None:
        replica = await serve(key_caller(rate=RateLimit(per_s=0.001, burst=2)))
        for _ in range(5):
            await ask(replica, by=signer())
        assert len(replica.app._replays) == 2

    async def test_refusals_are_counted_without_names(self, serve: Serve) -> None:
        replica = await serve(key_caller(rate=RateLimit(per_s=0.001, burst=1)), staff(roles=("models",)))
        await ask(replica)
        await ask(replica, by=signer())
        await ask(replica, by=signer())
        for _ in range(LEAST_ANSWERS - 3):
            await ask(replica, bearing(token()))
        samples = (await replica.call("GET", "/metrics")).body.decode()
        assert 's3ml_requests_total{service="tumours",outcome="refused"} 19' in samples
        assert "ada" not in samples
        assert "staff" not in samples

    async def test_nothing_of_it_is_logged(self, serve: Serve) -> None:
        replica = await serve(key_caller(), staff())
        text = token(exp=0)
        await ask(replica, bearing(text))
        await ask(replica, by=signer(BO))
        logged = replica.log.getvalue()
        assert text[-20:] not in logged
        assert "authorization" not in logged


class TestRoles:
    """Inference is a role, loading models another; metadata is for both."""

    async def test_no_role_for_inference(self, serve: Serve) -> None:
        replica = await serve(key_caller(roles=("models",)))
        answer = await ask(replica, by=signer())
        line = b'{"error":"caller: is admitted, and lacks the role for this"}'
        assert (answer.status, bytes(answer.content)) == (403, line)
        assert await status(replica, METADATA, by=signer()) == 200

    @pytest.mark.parametrize("action", ["load", "unload"])
    async def test_models_come_and_go_for_a_role_of_its_own(self, serve: Serve, action: str) -> None:
        replica = await serve(key_caller(), key_caller("bo", BO, roles=("models",)))
        request = InnerRequest(method="POST", path=f"/v2/repository/models/tumours/{action}")

        assert (await ask(replica, request, by=signer())).status == 403
        assert (await ask(replica, request, by=signer(BO))).status == 200

    @pytest.mark.parametrize("action", ["load", "unload"])
    async def test_nobody_has_it_where_anybody_may_call(self, serve: Serve, action: str) -> None:
        replica = await serve(AnonymousCallers())
        request = InnerRequest(method="POST", path=f"/v2/repository/models/tumours/{action}")

        assert (await ask(replica, request)).status == 403

    @pytest.mark.parametrize("roles", [("models",), ("infer",)])
    async def test_the_index_is_for_any_role(self, serve: Serve, roles: Any) -> None:
        replica = await serve(key_caller(roles=roles))
        request = InnerRequest(method="POST", path="/v2/repository/index")

        assert (await ask(replica, request, by=signer())).status == 200

    async def test_both_roles(self, serve: Serve) -> None:
        assert await status(await serve(key_caller(roles=("models", "infer"))), by=signer()) == 200


class TestRates:
    """The rate is each identity's own."""

    RATE = RateLimit(per_s=0.5, burst=2)

    async def test_a_caller_who_calls_too_often(self, serve: Serve) -> None:
        replica = await serve(key_caller(rate=self.RATE), key_caller("bo", BO, rate=self.RATE))
        answers = [await ask(replica, by=signer()) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].field("retry-after") == "2"
        assert bytes(answers[2].content) == b'{"error":"caller: too many requests; retry later"}'
        assert await status(replica, by=signer(BO)) == 200

    async def test_subjects_are_apart(self, serve: Serve) -> None:
        replica = await serve(staff(rate=self.RATE))
        assert [await status(replica, bearing(token(sub="ada"))) for _ in range(3)] == [200, 200, 429]
        assert [await status(replica, bearing(token(sub="bo"))) for _ in range(3)] == [200, 200, 429]

    async def test_tokens_without_a_subject_share_one(self, serve: Serve) -> None:
        replica = await serve(staff(rate=self.RATE))
        answers = [await status(replica, bearing(token(sub=None, jti=str(n)))) for n in range(3)]
        assert answers == [200, 200, 429]

    async def test_what_lacks_the_role_counts_too(self, serve: Serve) -> None:
        replica = await serve(staff(rate=self.RATE, roles=("models",)))
        assert [await status(replica, bearing(token())) for _ in range(3)] == [403, 403, 429]

    async def test_a_renewal_forgives_nothing(self, serve: Serve) -> None:
        replica = await serve(key_caller(rate=self.RATE))
        for _ in range(2):
            await ask(replica, by=signer())
        await replica.enrol()
        assert await status(replica, by=signer()) == 429

    async def test_time_does(self, serve: Serve) -> None:
        replica = await serve(key_caller(rate=self.RATE))
        for _ in range(3):
            await ask(replica, by=signer())
        replica.clock.elapsed_s += 2.0
        assert await status(replica, by=signer()) == 200


class TestDenial:
    """What cannot be enforced serves nobody."""

    def gate(self, *rules: CallerRule) -> Gate:
        return Gate(rules, deployment=DEPLOYMENT, service="tumours", issued_at=START)

    def test_rules_that_break_rules(self) -> None:
        with pytest.raises(ConfigurationError, match="release: callers: expected anonymous alone"):
            self.gate(AnonymousCallers(), key_caller())
        other = staff("others", keys=(jwk(OTHER_ED25519, "ed", "EdDSA"),))
        with pytest.raises(ConfigurationError, match="expected one key of"):
            self.gate(staff(keys=(jwk(ED25519, "ed", "EdDSA"),)), other)

    async def test_such_a_release_is_not_served_under(self, serve: Serve, replica: Replica) -> None:
        await serve(AnonymousCallers(), key_caller())
        assert replica.serving.phase.startswith(
            "unusable release: release: callers: expected anonymous alone"
        )
        assert replica.serving.door(replica.clock.monotonic_s()) is None
        assert (await replica.post(b"anything")).status == 503

    async def test_without_rules_nobody_is_admitted(self, serve: Serve) -> None:
        replica = await serve()
        answer = await ask(replica)
        assert (answer.status, answer.field("www-authenticate")) == (401, None)
        assert await status(replica, by=signer()) == 401
        assert await status(replica, bearing(token())) == 401

    async def test_new_rules_hold_from_the_next_renewal_on(self, serve: Serve) -> None:
        replica = await serve(AnonymousCallers())
        assert await status(replica) == 200
        await serve(key_caller())
        assert await status(replica) == 401
        assert await replica.enrolment.attempt() is Outcome.GRANTED
        replica.enrolment._set_timer(None)
