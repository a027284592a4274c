"""Which endpoint a method and a path name."""

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.oip import Endpoint, OIPError, Route, infer_path, metadata_path, parse_path, repository_path


class TestPaths:
    @pytest.mark.parametrize(
        ("method", "path", "route"),
        [
            ("GET", "/v2", Route(endpoint=Endpoint.SERVER_METADATA)),
            ("GET", "/v2/", Route(endpoint=Endpoint.SERVER_METADATA)),
            ("GET", "/v2/health/live", Route(endpoint=Endpoint.LIVE)),
            ("GET", "/v2/health/ready", Route(endpoint=Endpoint.READY)),
            ("GET", "/v2/models/m", Route(endpoint=Endpoint.MODEL_METADATA, model="m")),
            ("GET", "/v2/models/m/ready", Route(endpoint=Endpoint.MODEL_READY, model="m")),
            ("POST", "/v2/models/m-1/infer", Route(endpoint=Endpoint.INFER, model="m-1")),
            (
                "POST",
                "/v2/models/m/versions/12/infer",
                Route(endpoint=Endpoint.INFER, model="m", version="12"),
            ),
            ("POST", "/v2/repository/index", Route(endpoint=Endpoint.REPOSITORY_INDEX)),
            ("POST", "/v2/repository/models/m/load", Route(endpoint=Endpoint.MODEL_LOAD, model="m")),
            ("POST", "/v2/repository/models/m/unload", Route(endpoint=Endpoint.MODEL_UNLOAD, model="m")),
        ],
    )
    def test_name_endpoints(self, method: str, path: str, route: Route) -> None:
        assert parse_path(method, path) == route

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "/v2x",
            "/v2/models",
            "/v2/models/",
            "/v2/models/M/infer",
            "/v2/models/m/infer/",
            "/v2/models/m/infer?a=1",
            "/v2/models/m%2f/infer",
            "/v2/models/../infer",
            "/v2/models/m/infer\n",
            "/v2/models/m/versions/0/infer",
            "/v2/models/m/versions/infer",
            "/v2/repository",
            "/v2/repository/models/m",
            "/v2/repository/models/M/load",
            "/v2/repository/models/m/reload",
            "/v2/repository/models/m/versions/1/load",
        ],
    )
    def test_others_are_not_found(self, path: str) -> None:
        with pytest.raises(OIPError) as rejected:
            parse_path("POST", path)

        assert rejected.value.status == 404

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/v2/models/m/infer"), ("POST", "/v2"), ("get", "/v2"), ("GET", "/v2/repository/index")],
    )
    def test_another_method_is_not_allowed(self, method: str, path: str) -> None:
        with pytest.raises(OIPError) as rejected:
            parse_path(method, path)

        assert rejected.value.status == 405
        assert rejected.value.allow in {"GET", "POST"} - {method}

    def test_are_built_from_names(self) -> None:
        assert infer_path("m") == "/v2/models/m/infer"
        assert infer_path("m", "2") == "/v2/models/m/versions/2/infer"
        assert metadata_path() == "/v2"
        assert metadata_path("m") == "/v2/models/m"
        assert repository_path("m", "load") == "/v2/repository/models/m/load"

    @pytest.mark.parametrize(("model", "version"), [("M", None), ("m/..", None), ("m", "0"), ("m", "1/2")])
    def test_are_not_built_from_anything_else(self, model: str, version: str | None) -> None:
        with pytest.raises(ConfigurationError):
            infer_path(model, version)

    def test_no_repository_path_for_a_malformed_name(self) -> None:
        with pytest.raises(ConfigurationError):
            repository_path("../m", "unload")
