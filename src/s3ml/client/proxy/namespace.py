"""Which service a request is for: the models of all services are one namespace.

What is known of a model comes from verified trust bundles alone. A name that several services have is never
guessed at.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from s3ml.keyservice.client import VerifiedService
from s3ml.wire.oip import OIPError, Route, parse_path

SERVICE_METADATA = "s3ml-service"
_OF_SERVICE = re.compile(r"/services/([^/]*)(/v2(?:/.*)?)", re.ASCII)
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request asks for.

    Args:
        service: The service that its path names, if it names one; not yet known to be served here.
        path: As the service is to see it.
        route: What that path means.
    """

    service: str | None
    path: str
    route: Route


def parse_target(method: str, path: str) -> Target:
    """Return what a request asks for: an endpoint of the protocol, or one below ``/services/SERVICE``.

    Args:
        method: From a local client that nothing is known of.
        path: From the same, without a query.

    Raises:
        OIPError: status 404 when no endpoint has that path, 405 when it has another method.
    """
    match = _OF_SERVICE.fullmatch(path)
    service, inner = match.groups() if match else (None, path)
    return Target(service=service, path=inner, route=parse_path(method, inner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """The models of verified services, by service."""

    models: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, verified: Iterable[VerifiedService]) -> "Namespace":
        """Return the namespace of what was verified."""
        models = {one.service: frozenset(stated.model for stated in one.models) for one in verified}
        return cls(models=MappingProxyType(models))

    def service_of(self, model: str) -> str | None:
        """Return the service that has `model`; None where none has.

        Raises:
            OIPError: several have it; status 400, and the line says how to choose.
        """
        having = sorted(service for service, models in self.models.items() if model in models)
        if len(having) > 1:
            raise OIPError(
                f"model {model}: {len(having)} services have one of this name: {', '.join(having)}: "
                f"choose by the base path /services/SERVICE, or over gRPC by the metadata {SERVICE_METADATA}"
            )
        return having[0] if having else None

    def unknown_model(self, model: str) -> OIPError:
        """Return the error that no verified service has `model`; status 404."""
        known = ", ".join(sorted(set().union(*self.models.values()))) or "none"
        return OIPError(f"model {model}: no verified service has it; they have: {known[:400]}", status=404)

    def unknown_service(self, service: str) -> OIPError:
        """Return the error that `service` is not served here; status 404."""
        served = ", ".join(sorted(self.models))
        return OIPError(
            f"service {service[:_SHOWN_CHARS]!r}: not served by this proxy, which serves: {served}",
            status=404,
        )
