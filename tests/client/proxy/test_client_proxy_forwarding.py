"""What the proxy decides without its servers: whom a request is for, and what is said when it fails."""

import asyncio
import logging

import pytest

from s3ml.attestation.errors import EvidenceRejectedError, Mismatch
from s3ml.client import CredentialsRefusedError, DeadlineExceededError, UnknownServiceError
from s3ml.client.errors import InvalidInputError
from s3ml.client.proxy.answers import NO_SERVICE, Outcome
from s3ml.client.proxy.forwarding import Call
from s3ml.client.proxy.keeping import TrustKeeper
from s3ml.client.proxy.namespace import parse_target
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError
from s3ml.wire.errors import RequestTooLargeError
from s3ml.wire.oip import OIPError
from s3ml.wire.sealed import InnerResponse
from tests.client.proxy.forwarding_world import Desk, Services, reply, started

REJECTED = EvidenceRejectedError([Mismatch(claim="measurement", expected="aa", got="bb")])


class TestNamespace:
    """A model's name says which service it is in, and never is guessed at."""

    async def test_a_model_of_one_service_is_found(self, desk: Desk) -> None:
        assert await desk.ask("GET", "/v2/models/detector") == (
            200,
            {"name": "birds", "path": "/v2/models/detector"},
        )

    @pytest.mark.parametrize("suffix", ["", "/ready", "/versions/3", "/versions/3/ready"])
    async def test_a_name_that_two_services_have_needs_a_choice(self, desk: Desk, suffix: str) -> None:
        status, document = await desk.ask("GET", f"/v2/models/classifier{suffix}")
        assert status == 400
        assert "birds, tumours" in document["error"]
        assert "/services/SERVICE" in document["error"]
        assert "s3ml-service" in document["error"]
        assert desk.services.forwarded == []

    async def test_the_base_path_chooses(self, desk: Desk) -> None:
        status, document = await desk.ask("GET", "/services/tumours/v2/models/classifier")
        assert (status, document) == (200, {"name": "tumours", "path": "/v2/models/classifier"})

    async def test_the_metadata_chooses(self, desk: Desk) -> None:
        _, document = await desk.ask("GET", "/v2/models/classifier", service="birds")
        assert document["name"] == "birds"

    async def test_the_base_path_comes_before_the_metadata(self, desk: Desk) -> None:
        _, document = await desk.ask("GET", "/services/tumours/v2", service="birds")
        assert document["name"] == "tumours"

    @pytest.mark.parametrize("service", ["fish", "", "../birds", "BIRDS"])
    async def test_a_service_that_is_not_served_here(self, desk: Desk, service: str) -> None:
        status, document = await desk.ask("GET", "/v2", service=service)
        assert status == 404
        assert "serves: birds, tumours" in document["error"]

    async def test_an_unknown_model_names_those_that_are_known(self, desk: Desk) -> None:
        status, document = await desk.ask("POST", "/v2/models/whale/infer")
        assert status == 404
        assert "classifier, detector, segmenter" in document["error"]
        assert desk.services.forwarded == []

    async def test_a_model_that_owners_signed_since_is_found(self, desk: Desk) -> None:
        desk.services.clock.advance(10)
        desk.services.models["birds"] += ("whale",)
        status, _ = await desk.ask("GET", "/v2/models/whale")
        assert status == 200

    async def test_strangers_names_cause_no_storm_of_verifications(self, desk: Desk) -> None:
        desk.services.clock.advance(10)
        for _ in range(20):
            await desk.ask("GET", "/v2/models/whale")
        assert sorted(desk.services.verified) == ["birds", "tumours"]

    async def test_with_one_service_it_answers_for_unknown_models_itself(self, single: Desk) -> None:
        single.services.answers.append(reply({"error": "not served here"}, 404))
        assert await single.ask("GET", "/v2/models/whale") == (404, {"error": "not served here"})
        assert single.services.verified == []

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/v3",
            "/services",
            "/services/tumours",
            "/services/tumours/",
            "/services/a/b/v2",
            "/v2/models/A",
        ],
    )
    def test_no_endpoint_has_another_path(self, path: str) -> None:
        with pytest.raises(OIPError) as refused:
            parse_target("GET", path)
        assert refused.value.status == 404


class TestServerEndpoints:
    """About the server as a whole, the proxy speaks for all of its services."""

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    async def test_one_service_speaks_for_itself(self, single: Desk, path: str) -> None:
        assert await single.ask("GET", path) == (200, {"name": "tumours", "path": path})

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    async def test_several_have_the_extensions_that_all_have(self, desk: Desk, path: str) -> None:
        first = reply({"name": "s3ml", "version": "1", "extensions": ["binary_tensor_data", "statistics"]})
        second = reply({"name": "s3ml", "version": "1", "extensions": ["binary_tensor_data"]})
        desk.services.answers += [first, second]
        status, document = await desk.ask("GET", path)
        assert (status, document["name"]) == (200, "s3ml-proxy")
        assert document["extensions"] == ["binary_tensor_data"]

    async def test_the_index_lists_the_models_of_all(self, desk: Desk) -> None:
        first, second = [{"name": "a", "state": "READY"}], [{"name": "b", "state": "LOADING"}]
        desk.services.answers += [reply(first), reply(second)]
        assert await desk.ask("POST", "/v2/repository/index", content=b'{"ready":true}') == (
            200,
            first + second,
        )
        assert {sent.content for sent in desk.services.forwarded} == {b'{"ready":true}'}

    async def test_the_first_refusal_answers_for_all(self, desk: Desk) -> None:
        desk.services.answers += [reply([]), reply({"error": "no"}, 403)]
        assert await desk.ask("POST", "/v2/repository/index") == (403, {"error": "no"})

    async def test_an_answer_that_is_none_is_not_passed_off_as_one(self, desk: Desk) -> None:
        desk.services.answers += [reply({"extensions": "all"}), reply({"extensions": []})]
        status, document = await desk.ask("GET", "/v2")
        assert status == 502
        assert "malformed" in document["error"]

    @pytest.mark.parametrize("action", ["load", "unload"])
    async def test_loading_goes_to_the_model_s_service(self, desk: Desk, action: str) -> None:
        path = f"/v2/repository/models/detector/{action}"
        assert await desk.ask("POST", path) == (200, {"name": "birds", "path": path})


class TestHealth:
    """Live is the proxy; ready is everything that a request needs."""

    async def test_live_asks_nobody(self, desk: Desk) -> None:
        desk.services.failures["birds"] = UnavailableError("away")
        assert await desk.ask("GET", "/v2/health/live") == (200, {"live": True})
        assert desk.services.forwarded == []

    async def test_ready_asks_every_service(self, desk: Desk) -> None:
        assert await desk.ask("GET", "/v2/health/ready") == (200, {"ready": True})
        assert {(sent.service, sent.path) for sent in desk.services.forwarded} == {
            ("birds", "/v2/health/ready"),
            ("tumours", "/v2/health/ready"),
        }

    async def test_one_that_does_not_answer(self, desk: Desk) -> None:
        desk.services.failures["birds"] = UnavailableError("gateway: refuses connections")
        assert await desk.ask("GET", "/v2/health/ready") == (
            503,
            {"ready": False, "services": {"birds": "gateway: refuses connections"}},
        )
        assert (await desk.ask("GET", "/services/tumours/v2/health/ready"))[0] == 200

    async def test_one_that_is_not_ready(self, single: Desk) -> None:
        single.services.answers.append(reply({"ready": False}, 503))
        assert await single.ask("GET", "/v2/health/ready") == (
            503,
            {"ready": False, "services": {"tumours": "the service answered 503"}},
        )

    async def test_one_whose_trust_failed(self, single: Desk) -> None:
        single.services.trust_failures["tumours"] = REJECTED
        single.services.clock.advance(10)
        await single.keeper.look_again()
        status, document = await single.ask("GET", "/v2/health/ready")
        assert status == 503
        assert "measurement: expected aa, got bb" in document["services"]["tumours"]
        assert single.services.forwarded == []

    async def test_draining(self, desk: Desk) -> None:
        desk.proxy.is_draining = True
        assert await desk.ask("GET", "/v2/health/ready") == (503, {"ready": False, "reason": "draining"})


class TestHandingOn:
    """What goes in and what comes out is the local client's and the service's."""

    async def test_a_request_goes_on_as_it_came(self, single: Desk) -> None:
        fields = (("content-type", "application/octet-stream"),)
        await single.ask("POST", "/v2/models/m/infer", fields=fields, content=b"\x00{", timeout_s=3.0)
        (sent,) = single.services.forwarded
        assert (sent.fields, sent.content, sent.timeout_s) == (fields, b"\x00{", 3.0)

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [(200, Outcome.ANSWERED), (400, Outcome.REFUSED), (429, Outcome.REFUSED), (500, Outcome.FAILED)],
    )
    async def test_an_answer_comes_back_whatever_its_status(
        self, single: Desk, status: int, outcome: Outcome
    ) -> None:
        inner = InnerResponse(status=status, fields=(("retry-after", "7"),), content=b"\xff")
        single.services.answers.append(inner)
        answer = await single.proxy.answer(Call(method="GET", path="/v2"))
        assert answer.response is inner
        assert (answer.outcome, answer.service) == (outcome, "tumours")


class TestErrors:
    """Each error says what to do about it, by its status and by its line."""

    @pytest.mark.parametrize(
        ("error", "status", "outcome"),
        [
            (RequestTooLargeError(size_bytes=2, limit_bytes=1), 413, Outcome.REJECTED),
            (InvalidInputError("request: 9 bytes are more than the service accepts"), 413, Outcome.REJECTED),
            (CredentialsRefusedError("service 'tumours': expected a token, got none"), 401, Outcome.REJECTED),
            (REJECTED, 502, Outcome.UNTRUSTED),
            (UntrustedPeerError("the answer does not open"), 502, Outcome.UNTRUSTED),
            (DeadlineExceededError("no answer within 30 s"), 504, Outcome.UNAVAILABLE),
            (UnavailableError("the key service does not state it now"), 503, Outcome.UNAVAILABLE),
            (UnknownServiceError("the gateway does not route to it"), 502, Outcome.UNAVAILABLE),
            (ConfigurationError("trust: nothing says what to accept"), 502, Outcome.UNAVAILABLE),
            (S3MLError("strange"), 500, Outcome.FAILED),
        ],
    )
    async def test_status_and_line(
        self, single: Desk, error: S3MLError, status: int, outcome: Outcome
    ) -> None:
        single.services.failures["tumours"] = error
        answer = await single.proxy.answer(Call(method="POST", path="/v2/models/m/infer"))
        assert (answer.response.status, answer.outcome, answer.service) == (status, outcome, "tumours")
        assert str(error).encode() in bytes(answer.response.content)
        assert answer.response.field("content-type") == "application/json"

    async def test_failed_checks_are_listed(self, single: Desk) -> None:
        single.services.failures["tumours"] = REJECTED
        status, document = await single.ask("GET", "/v2")
        assert status == 502
        assert document["failed_checks"] == ["measurement: expected aa, got bb"]
        assert document["error"].startswith("nothing was sent in the clear: evidence rejected")

    async def test_when_to_come_back_is_kept(self, single: Desk) -> None:
        single.services.failures["tumours"] = UnavailableError("full", retry_after_s=1.2)
        answer = await single.proxy.answer(Call(method="GET", path="/v2"))
        assert answer.response.field("retry-after") == "2"

    async def test_an_error_without_a_service_is_counted_so(self, desk: Desk) -> None:
        answer = await desk.proxy.answer(Call(method="GET", path="/nothing"))
        assert (answer.service, answer.outcome) == (NO_SERVICE, Outcome.REJECTED)

    async def test_a_fault_of_ours_tells_nothing(
        self, single: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        single.services.failures["tumours"] = RuntimeError("secret input")
        with caplog.at_level(logging.ERROR):
            assert await single.ask("GET", "/v2") == (500, {"error": "proxy: internal error"})
        assert "RuntimeError" in caplog.text
        assert "secret" not in caplog.text


class TestTrust:
    """Trust is renewed ahead of its end, and a check that fails stops requests."""

    async def test_a_failed_check_stops_requests_at_once(self, single: Desk) -> None:
        single.services.trust_failures["tumours"] = REJECTED
        single.services.clock.advance(10)
        await single.keeper.look_again()
        status, document = await single.ask("POST", "/v2/models/m/infer", content=b"input")
        assert status == 502
        assert document["failed_checks"]
        assert single.services.forwarded == []

    async def test_it_heals(self, single: Desk) -> None:
        await self.test_a_failed_check_stops_requests_at_once(single)
        single.services.trust_failures.clear()
        single.services.clock.advance(10)
        await single.keeper.look_again()
        assert (await single.ask("GET", "/v2"))[0] == 200

    async def test_a_key_service_that_is_away_stops_nothing(self, single: Desk) -> None:
        single.services.trust_failures["tumours"] = UnavailableError("away")
        single.services.clock.advance(10)
        await single.keeper.look_again()
        assert (await single.ask("GET", "/v2"))[0] == 200

    @pytest.mark.parametrize("error", [REJECTED, UnavailableError("away"), ConfigurationError("unknown")])
    async def test_it_does_not_start_without(self, services: Services, error: S3MLError) -> None:
        services.trust_failures["tumours"] = error
        with pytest.raises(type(error)):
            await started(services)

    async def test_it_is_renewed_before_it_expires_and_soon_after_a_failure(self) -> None:
        services = Services({"tumours": ("classifier",)})
        slept: list[float] = []

        async def sleep(duration_s: float) -> None:
            slept.append(duration_s)
            services.clock.advance(duration_s)
            if len(slept) == 2:
                services.trust_failures["tumours"] = UnavailableError("away")
            if len(slept) == 3:
                services.trust_failures.clear()
            if len(slept) == 5:
                raise asyncio.CancelledError  # Ends this service's task, as a shutdown does.

        keeper = TrustKeeper(services, ["tumours"], services.clock, sleep=sleep)
        await keeper.start()
        await keeper.run()
        assert slept == [360, 360, 5, 360, 360]
        assert len(services.verified) == 5
