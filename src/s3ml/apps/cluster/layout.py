"""Where the operator's files of a local cluster lie: one folder, nothing outside it."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError

# A Unix socket's path holds 107 bytes; the longest of ours below the folder takes 32 of them.
_PATH_LIMIT_BYTES = 75


@dataclass(frozen=True, slots=True)
class ClusterFolder:
    """The folder of one cluster.

    Attributes:
        root: The folder itself, of mode 0700.
        is_temporary: Whether it goes when the cluster stops.
    """

    root: Path
    is_temporary: bool

    @classmethod
    def create(cls, root: Path | None) -> "ClusterFolder":
        """Make the folder `root`, or a temporary one where none is named.

        Raises:
            ConfigurationError: it cannot be made, or its path is too long for Unix sockets.
        """
        folder = cls(root.absolute(), is_temporary=False) if root else cls._temporary()
        if len(str(folder.root).encode()) > _PATH_LIMIT_BYTES:
            raise ConfigurationError(
                f"state folder {folder.root}: expected a path of at most {_PATH_LIMIT_BYTES} bytes, because "
                "Unix sockets lie below it: choose a shorter one"
            )
        try:
            for path in (folder.root, folder.platform, folder.key_service, folder.store, folder.logs):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"state folder {folder.root}: {error.strerror}") from error
        return folder

    @classmethod
    def _temporary(cls) -> "ClusterFolder":
        return cls(Path(tempfile.mkdtemp(prefix="s3ml-")), is_temporary=True)

    @property
    def platform(self) -> Path:
        """The simulated platform's keys, images and sockets."""
        return self.root / "platform"

    @property
    def key_service(self) -> Path:
        """The key service's database."""
        return self.root / "key-service"

    @property
    def gateway(self) -> Path:
        """Envoy's configuration and endpoint files."""
        return self.root / "gateway"

    @property
    def balancer(self) -> Path:
        """The balancer's files."""
        return self.root / "balancer"

    @property
    def balancer_membership(self) -> Path:
        """Which replicas there are, for the balancer."""
        return self.balancer / "membership.json"

    @property
    def balancer_control(self) -> Path:
        """The balancer's Unix socket."""
        return self.balancer / "control.sock"

    @property
    def store(self) -> Path:
        """The store of encrypted bundles."""
        return self.root / "bundles"

    @property
    def logs(self) -> Path:
        """What the processes print."""
        return self.root / "logs"

    @property
    def simulation_root(self) -> Path:
        """The simulated platform's root certificate."""
        return self.platform / "root.pem"

    def remove(self) -> None:
        """Remove a temporary folder; leave one that somebody named."""
        if self.is_temporary:
            shutil.rmtree(self.root, ignore_errors=True)
