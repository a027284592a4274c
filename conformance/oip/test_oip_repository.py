"""The model repository extension: what is there, and models that come and go.

Source: Triton's model repository extension.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from conformance.oip.endpoint import JSON_FIELDS, Endpoint, Reply, model_path
from conformance.oip.names import LOADABLE, SCALE
from conformance.oip.requests import scale

Need = Callable[[str], str]

STATES = {"READY", "UNAVAILABLE", "LOADING", "UNLOADING"}
DENIED = {401, 403}


def index(endpoint: Endpoint, document: object | None = None) -> list[dict[str, str]]:
    """Return the index."""
    content = b"" if document is None else json.dumps(document).encode()
    reply = endpoint.ask("POST", "/v2/repository/index", content, JSON_FIELDS)
    assert reply.status == 200, reply.content[:300]
    entries: list[dict[str, str]] = reply.document
    return entries


def act(endpoint: Endpoint, action: str, model: str) -> Reply:
    """Load or unload a model; skips the test where the endpoint does not let its caller."""
    reply = endpoint.ask("POST", f"/v2/repository/models/{model}/{action}", b"", JSON_FIELDS)
    if reply.status in DENIED:
        pytest.skip("the endpoint does not let its caller load and unload models")
    return reply


def is_ready(endpoint: Endpoint, model: str) -> bool:
    return endpoint.get(f"{model_path(model)}/ready").status == 200


class TestIndex:
    """Every version of every model, and its state."""

    @pytest.mark.parametrize("document", [None, {}, {"ready": False}, {"ready": True}])
    def test_entries(self, endpoint: Endpoint, need: Need, document: object) -> None:
        found = {}
        for entry in index(endpoint, document):
            assert entry["state"] in STATES
            assert isinstance(entry["reason"], str)
            found[entry["name"], entry["version"]] = entry["state"]
        assert found[need(SCALE), "1"] == "READY"
        assert found[SCALE, "2"] == "READY"

    def test_ready_alone(self, endpoint: Endpoint) -> None:
        assert {entry["state"] for entry in index(endpoint, {"ready": True})} == {"READY"}

    @pytest.mark.parametrize("content", [b"{", b"[]", b'{"ready": "yes"}'])
    def test_malformed(self, endpoint: Endpoint, content: bytes) -> None:
        reply = endpoint.ask("POST", "/v2/repository/index", content, JSON_FIELDS)
        assert 400 <= reply.status < 500

    def test_method(self, endpoint: Endpoint) -> None:
        assert endpoint.get("/v2/repository/index").status in {400, 404, 405}


class TestLoading:
    """A model is unloaded, is gone, and comes back."""

    @pytest.fixture
    def loadable(self, endpoint: Endpoint, need: Need) -> Iterator[str]:
        """A model that is loaded before, and again after."""
        model = need(LOADABLE)
        assert act(endpoint, "load", model).status == 200
        yield model
        assert act(endpoint, "load", model).status == 200
        assert is_ready(endpoint, model)

    def test_unloaded_models_are_gone(self, endpoint: Endpoint, loadable: str) -> None:
        assert act(endpoint, "unload", loadable).status == 200
        assert not is_ready(endpoint, loadable)
        assert endpoint.infer(loadable, scale()).status in {400, 404, 503}
        (entry,) = [entry for entry in index(endpoint) if entry["name"] == loadable]
        assert entry["state"] == "UNAVAILABLE"
        assert loadable not in {entry["name"] for entry in index(endpoint, {"ready": True})}

    def test_others_stay(self, endpoint: Endpoint, loadable: str) -> None:
        assert act(endpoint, "unload", loadable).status == 200
        assert is_ready(endpoint, SCALE)

    def test_loaded_models_answer(self, endpoint: Endpoint, loadable: str) -> None:
        assert act(endpoint, "unload", loadable).status == 200
        assert act(endpoint, "load", loadable).status == 200
        assert endpoint.infer(loadable, scale()).status == 200

    @pytest.mark.parametrize("action", ["load", "unload"])
    def test_twice_is_as_good_as_once(self, endpoint: Endpoint, loadable: str, action: str) -> None:
        assert [act(endpoint, action, loadable).status for _ in range(2)] == [200, 200]

    @pytest.mark.parametrize("action", ["load", "unload"])
    def test_unknown_model(self, endpoint: Endpoint, loadable: str, action: str) -> None:
        assert loadable
        reply = act(endpoint, action, "nobody")
        assert 400 <= reply.status < 500
        assert reply.error

    def test_method(self, endpoint: Endpoint) -> None:
        assert endpoint.get(f"/v2/repository/models/{LOADABLE}/load").status in {400, 404, 405}
