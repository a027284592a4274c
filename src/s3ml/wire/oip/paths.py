"""Which endpoint a method and a path name.

Source: Open Inference Protocol, "HTTP/REST"; Triton's model repository extension.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from s3ml.primitives.names import check_name, check_version
from s3ml.wire.oip.errors import OIPError

_NAME = r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
_MODEL = re.compile(
    rf"/v2/models/{_NAME}(?:/versions/([1-9][0-9]{{0,8}}))?(?:/(ready|infer))?",
    re.ASCII,
)
_REPOSITORY = re.compile(rf"/v2/repository/models/{_NAME}/(load|unload)", re.ASCII)


class Endpoint(StrEnum):
    """What can be asked of a server."""

    SERVER_METADATA = "server metadata"
    LIVE = "live"
    READY = "ready"
    MODEL_METADATA = "model metadata"
    MODEL_READY = "model ready"
    INFER = "infer"
    REPOSITORY_INDEX = "repository index"
    MODEL_LOAD = "model load"
    MODEL_UNLOAD = "model unload"


POSTED = frozenset({Endpoint.INFER, Endpoint.REPOSITORY_INDEX, Endpoint.MODEL_LOAD, Endpoint.MODEL_UNLOAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An endpoint, with the model and the version that its path names."""

    endpoint: Endpoint
    model: str | None = None
    version: str | None = None


INDEX_PATH = "/v2/repository/index"

_FIXED = {
    "/v2": Route(endpoint=Endpoint.SERVER_METADATA),
    "/v2/": Route(endpoint=Endpoint.SERVER_METADATA),
    "/v2/health/live": Route(endpoint=Endpoint.LIVE),
    "/v2/health/ready": Route(endpoint=Endpoint.READY),
    INDEX_PATH: Route(endpoint=Endpoint.REPOSITORY_INDEX),
}
_MODEL_ENDPOINTS = {
    None: Endpoint.MODEL_METADATA,
    "ready": Endpoint.MODEL_READY,
    "infer": Endpoint.INFER,
}
_REPOSITORY_ENDPOINTS = {"load": Endpoint.MODEL_LOAD, "unload": Endpoint.MODEL_UNLOAD}


def parse_path(method: str, path: str) -> Route:
    """Return what a request (from an untrusted peer) asks for.

    Raises:
        OIPError: status 404 when no endpoint has that path, 405 when it has another method.
    """
    route = _FIXED.get(path) or _model_route(path) or _repository_route(path)
    if route is None:
        raise OIPError("path: no such endpoint", status=404)
    expected = "POST" if route.endpoint in POSTED else "GET"
    if method != expected:
        raise OIPError(
            f"method: expected {expected} for {route.endpoint}, got {method[:20]!r}",
            status=405,
            allow=expected,
        )
    return route


def infer_path(model: str, version: str | None = None) -> str:
    """Return the path to infer with `model`.

    Raises:
        ConfigurationError: a malformed name or version.
    """
    return f"{metadata_path(model, version)}/infer"


def metadata_path(model: str | None = None, version: str | None = None) -> str:
    """Return the path of the metadata of `model`, or of the server.

    Raises:
        ConfigurationError: a malformed name or version.
    """
    if model is None:
        return "/v2"
    path = f"/v2/models/{check_name(model, what='model')}"
    return path if version is None else f"{path}/versions/{check_version(version, what='model version')}"


def repository_path(model: str, action: Literal["load", "unload"]) -> str:
    """Return the path to load or unload `model` on the server that answers.

    Raises:
        ConfigurationError: a malformed name.
    """
    return f"/v2/repository/models/{check_name(model, what='model')}/{action}"


def _repository_route(path: str) -> Route | None:
    match = _REPOSITORY.fullmatch(path)
    if match is None:
        return None
    model, action = match.groups()
    return Route(endpoint=_REPOSITORY_ENDPOINTS[action], model=model)


def _model_route(path: str) -> Route | None:
    match = _MODEL.fullmatch(path)
    if match is None:
        return None
    model, version, action = match.groups()
    return Route(endpoint=_MODEL_ENDPOINTS[action], model=model, version=version)
