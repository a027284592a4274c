"""From a trust file and an address to a pinned deployment: what owners' and model owners' commands share."""

from pathlib import Path

from s3ml.apps.cli.console import warn_about
from s3ml.apps.governance.changes import Deployment
from s3ml.client.trust import Trust
from s3ml.keyservice.client import KeyServiceClient

KEY_SERVICE_PATH = "/keyservice"


def key_service_at(gateway: str) -> KeyServiceClient:
    """Return a client of the key service behind `gateway`."""
    return KeyServiceClient(gateway.rstrip("/") + KEY_SERVICE_PATH)


def connect(trust: Path, gateway: str, *, client: KeyServiceClient | None = None) -> Deployment:
    """Reach the deployment that a trust file pins, and say loudly what it does not protect from.

    Args:
        trust: The trust file.
        gateway: Where the cluster answers.
        client: Leads to one replica of the key service instead.

    Raises:
        ConfigurationError: the trust file is missing or malformed, or nothing was begun yet.
        UntrustedPeerError: the gateway leads to another deployment.
        UnavailableError: nothing answers.
    """
    pinned = Trust.read(trust)
    deployment = Deployment.connect(client or key_service_at(gateway), deployment=pinned.deployment)
    authority = deployment.authority
    warn_about(is_simulated=authority.is_simulated, is_fork_protected=authority.is_fork_protected)
    return deployment
