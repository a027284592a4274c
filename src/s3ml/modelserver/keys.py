"""From a release to the keys that open requests."""

from datetime import datetime
from threading import Lock

from s3ml.keyservice.documents import Release
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.wire.hpke import PrivateKey
from s3ml.wire.ohttp import parse_key_configs
from s3ml.wire.sealed import Admission, KeyRing, ReplayGuard, RingKey


def build_ring(release: Release) -> KeyRing:
    """Return the keys of all epochs of a release: pending ones too, so that a rotation finds them here.

    Raises:
        UntrustedPeerError: a key configuration is not exactly one.
        ConfigurationError: a key is not the private half of its configuration, or an id occurs twice.
    """
    ring: list[RingKey] = []
    for epoch in release.epochs:
        for key in epoch.keys:
            configs = parse_key_configs(key.key_config)
            if len(configs) != 1:
                raise UntrustedPeerError(
                    f"release: expected one configuration per key of epoch {epoch.epoch}, got {len(configs)}"
                )
            private_key = PrivateKey.from_bytes(configs[0].kem, key.private_key)
            ring.append(
                RingKey(
                    config=configs[0], private_key=private_key, service=release.service, epoch=epoch.epoch
                )
            )
    return KeyRing.of(ring)


class SharedReplayGuard(ReplayGuard):
    """A replay guard for the event loop and the threads that open large requests.

    There is one for the whole life of a process, whatever happens to its keys.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def admit(self, enc: bytes, *, date: datetime, now: datetime) -> Admission:
        """Remember a request, or tell why it is not admitted, one caller at a time."""
        with self._lock:
            return super().admit(enc, date=date, now=now)
