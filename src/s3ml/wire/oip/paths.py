"""Which endpoint a method and a path name.

Source: Open Inference Protocol, "HTTP/REST".
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from s3ml.primitives.names import check_name, check_version
from s3ml.wire.oip.errors import OIPError

_MODEL = re.compile(
    r"/v2/models/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:/versions/([1-9][0-9]{0,8}))?(?:/(ready|infer))?",
    re.ASCII,
)


class Endpoint(StrEnum):
    """What can be asked of a server."""

    SERVER_METADATA = "server metadata"
    LIVE = "live"
    READY = "ready"
    MODEL_METADATA = "model metadata"
    MODEL_READY = "model ready"
    INFER = "infer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An endpoint, with the model and the version that its path names."""

    endpoint: Endpoint
    model: str | None = None
    version: str | None = None


_FIXED = {
    "/v2": Route(endpoint=Endpoint.SERVER_METADATA),
    "/v2/": Route(endpoint=Endpoint.SERVER_METADATA),
    "/v2/health/live": Route(endpoint=Endpoint.LIVE),
    "/v2/health/ready": Route(endpoint=Endpoint.READY),
}
_MODEL_ENDPOINTS = {
    None: Endpoint.MODEL_METADATA,
    "ready": Endpoint.MODEL_READY,
    "infer": Endpoint.INFER,
}


def parse_path(method: str, path: str) -> Route:
    """Return what a request (from an untrusted peer) asks for.

    Raises:
        OIPError: status 404 when no endpoint has that path, 405 when it has another method.
    """
    route = _FIXED.get(path) or _model_route(path)
    if route is None:
        raise OIPError("path: no such endpoint", status=404)
    expected = "POST" if route.endpoint is Endpoint.INFER else "GET"
    if method != expected:
        raise OIPError(f"method: expected {expected} for {route.endpoint}, got {method[:20]!r}", status=405)
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


def _model_route(path: str) -> Route | None:
    match = _MODEL.fullmatch(path)
    if match is None:
        return None
    model, version, action = match.groups()
    return Route(endpoint=_MODEL_ENDPOINTS[action], model=model, version=version)
