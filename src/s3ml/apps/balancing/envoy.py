"""Envoy behind the balancer's port: counters from its admin socket, weights by its endpoint files.

Reading blocks for a millisecond or two, in a thread of its own; the event loop goes on meanwhile.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3ml.gateway import Endpoint, Upstream, endpoints_folder, read_clusters, service_cluster, write_endpoints
from s3ml.scheduling.balancer.fleet import Host
from s3ml.scheduling.balancer.ports import Weighted

_PREFIX = service_cluster("")
_File = tuple[int, int] | None
"""Which file a path leads to, and when it was written."""
_SERVICE_PATH = re.compile(r"/services/([a-z0-9-]{1,63})/")


class EnvoyFolder:
    """The gateway whose folder this is; its process may be anybody's.

    Args:
        folder: Where its admin socket and endpoint files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, tuple[tuple[Endpoint, ...], _File]] = {}

    async def hosts(self) -> Mapping[str, Iterable[Host]]:
        """Return what Envoy counted of each service's replicas.

        Raises:
            UnavailableError: it does not answer.
        """
        clusters = await asyncio.to_thread(read_clusters, self._folder)
        return {
            cluster.removeprefix(_PREFIX): [_host(upstream) for upstream in upstreams]
            for cluster, upstreams in clusters.items()
            if cluster.startswith(_PREFIX)
        }

    async def set_weights(self, service: str, replicas: Iterable[Weighted]) -> bool:
        """Write the endpoint file of `service` if it does not say this already.

        Another process may have written it as well, to add or take out a replica at once: that is noticed by
        the file itself, which a rename makes another one.

        Raises:
            ConfigurationError: the folder cannot be written, or an address or weight is none.
        """
        members = tuple(
            Endpoint(address=replica.address, node=replica.node, weight=replica.weight)
            for replica in replicas
        )
        folder, cluster = endpoints_folder(self._folder), service_cluster(service)
        path = folder / f"{cluster}.json"
        if self._written.get(service) == (members, _file(path)):
            return False
        write_endpoints(folder, cluster, members)
        self._written[service] = (members, _file(path))
        return True


def service_of_path(path: str) -> str | None:
    """Return the service that a path of the gateway is of, or None."""
    found = _SERVICE_PATH.match(path)
    return None if found is None else found[1]


def _host(upstream: Upstream) -> Host:
    return Host(
        address=upstream.address,
        is_ready=upstream.is_healthy,
        in_flight=upstream.in_flight,
        succeeded=upstream.succeeded,
        failed=upstream.failed,
    )


def _file(path: Path) -> _File:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
