"""Server and model metadata, health, versions: what a client asks before it infers."""

from collections.abc import Callable

import pytest

from conformance.oip.endpoint import Endpoint, model_path
from conformance.oip.names import ADD_SUBTRACT, DATATYPES, EVERY_DATATYPE, SCALE

Need = Callable[[str], str]

KNOWN_DATATYPES = {*DATATYPES, "FP16", "BF16"}


class TestServer:
    """A server says what it is, and that it lives."""

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    def test_metadata(self, endpoint: Endpoint, path: str) -> None:
        reply = endpoint.get(path)
        assert reply.status == 200
        document = reply.document
        assert isinstance(document["name"], str)
        assert isinstance(document["version"], str)
        assert all(isinstance(extension, str) for extension in document["extensions"])

    def test_metadata_names_the_binary_extension(self, endpoint: Endpoint) -> None:
        """`tritonclient` asks nobody, but people do."""
        assert {"binary_tensor_data", "binary_data"} & set(endpoint.get("/v2").document["extensions"])

    @pytest.mark.parametrize("state", ["live", "ready"])
    def test_health(self, endpoint: Endpoint, state: str) -> None:
        assert endpoint.get(f"/v2/health/{state}").status == 200

    @pytest.mark.parametrize("state", ["live", "ready"])
    def test_health_has_a_body_that_clients_parse(self, endpoint: Endpoint, state: str) -> None:
        """KServe's REST client reads it and fails without."""
        assert endpoint.get(f"/v2/health/{state}").document == {state: True}

    @pytest.mark.parametrize("path", ["/v2", "/v2/health/live"])
    def test_answers_are_json(self, endpoint: Endpoint, path: str) -> None:
        media_type = endpoint.get(path).fields["content-type"]
        assert media_type.split(";")[0] == "application/json"


class TestModel:
    """A model's metadata is enough to call it."""

    def test_every_named_model_is_described(self, endpoint: Endpoint, need: Need) -> None:
        for name in endpoint.models:
            document = endpoint.get(model_path(need(name))).document
            assert document["name"] == name
            assert isinstance(document["platform"], str)
            assert document["inputs"]
            for tensor in (*document["inputs"], *document["outputs"]):
                assert isinstance(tensor["name"], str)
                assert tensor["datatype"] in KNOWN_DATATYPES
                assert all(isinstance(size, int) and size >= -1 for size in tensor["shape"])

    def test_inputs_and_outputs(self, endpoint: Endpoint, need: Need) -> None:
        document = endpoint.get(model_path(need(ADD_SUBTRACT))).document
        for kind, names in (("inputs", ("a", "b")), ("outputs", ("sum", "difference"))):
            got = [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in document[kind]]
            assert got == [(name, "FP32", [-1, 3]) for name in names]

    def test_every_datatype_has_its_name(self, endpoint: Endpoint, need: Need) -> None:
        document = endpoint.get(model_path(need(EVERY_DATATYPE))).document
        assert [tensor["datatype"] for tensor in document["inputs"]] == list(DATATYPES)

    def test_ready(self, endpoint: Endpoint, need: Need) -> None:
        assert endpoint.get(f"{model_path(need(SCALE))}/ready").status == 200

    def test_ready_has_a_body_that_clients_parse(self, endpoint: Endpoint, need: Need) -> None:
        reply = endpoint.get(f"{model_path(need(SCALE))}/ready")
        assert reply.document == {"name": SCALE, "ready": True}

    @pytest.mark.parametrize("version", ["1", "2"])
    def test_versions(self, endpoint: Endpoint, need: Need, version: str) -> None:
        path = model_path(need(SCALE), version)
        assert endpoint.get(path).document["name"] == SCALE
        assert endpoint.get(f"{path}/ready").status == 200

    def test_versions_are_listed(self, endpoint: Endpoint, need: Need) -> None:
        assert endpoint.get(model_path(need(SCALE))).document["versions"] == ["1", "2"]


class TestUnknown:
    """What is not there is 404, with the protocol's error document."""

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/models/nobody",
            "/v2/models/nobody/ready",
            "/v2/models/nobody/versions/1",
            f"/v2/models/{SCALE}/versions/99",
            f"/v2/models/{SCALE}/versions/99/ready",
        ],
    )
    def test_model_or_version(self, endpoint: Endpoint, need: Need, path: str) -> None:
        need(SCALE)
        reply = endpoint.get(path)
        assert reply.status == 404
        assert isinstance(reply.document["error"], str)

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/nothing",
            "/v2/models",
            "/v2/models/",
            "/v2/health",
            f"/v2/models/{SCALE}/versions",
            f"/v2/models/{SCALE}/nothing",
            f"/v2/models/{SCALE}/versions/1/2",
            f"/v2/models/{SCALE}/versions/abc",
            f"/v2/models/{SCALE}/versions/-1",
            "/v2/models/%2e%2e/ready",
            "/v2/models/..%2f..%2fetc/ready",
            "/v2/models/a%00b",
            pytest.param(f"/v2/models/{'n' * 2000}", id="a long name"),
        ],
    )
    def test_path(self, endpoint: Endpoint, path: str) -> None:
        assert endpoint.get(path).status in {400, 404, 405}

    def test_a_health_query_is_no_other_path(self, endpoint: Endpoint) -> None:
        assert endpoint.get("/v2/health/live?verbose=1").status in {200, 400, 404}
