"""Key configurations: which public key to seal to, and with which algorithms.

The list is one object: a single malformed configuration discards it whole. One of a KEM that is not known
here is skipped, and so are unknown pairs of algorithms.

Source: RFC 9458, section 3.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB
from s3ml.wire.hpke import Aead, Kdf, Kem, Suite
from s3ml.wire.hpke.kem import parse_public_key

CONFIGS_LIMIT_BYTES = 64 * KIB
_HEAD_BYTES = 3
_LENGTH_BYTES = 2
_PAIR_BYTES = 4
_KEY_IDS = range(256)
_KDFS = frozenset(map(int, Kdf))
_AEADS = frozenset(map(int, Aead))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """A public key and how to use it.

    Args:
        key_id: 0 to 255, unique among the unexpired keys of its holder.
        kem: The KEM of `public_key`.
        public_key: As HPKE serialises it.
        suites: What the holder accepts, the best first; all of them of `kem`.

    Raises:
        ConfigurationError: a malformed key, an id out of range, no suite, or one of another KEM.
    """

    key_id: int
    kem: Kem
    public_key: bytes
    suites: tuple[Suite, ...]

    def __post_init__(self) -> None:
        if self.key_id not in _KEY_IDS:
            raise ConfigurationError(f"key configuration: expected an id of 0 to 255, got {self.key_id}")
        if not self.suites or any(suite.kem is not self.kem for suite in self.suites):
            raise ConfigurationError(
                f"key configuration: expected at least one suite, each of {self.kem.name}"
            )
        parse_public_key(self.kem, self.public_key)


def encode_key_configs(configs: Iterable[KeyConfig]) -> bytes:
    """Encode `configs` as ``application/ohttp-keys``, in order."""
    encoded = (_encode(config) for config in configs)
    return b"".join(len(config).to_bytes(_LENGTH_BYTES, "big") + config for config in encoded)


def parse_key_configs(data: bytes) -> tuple[KeyConfig, ...]:
    """Parse ``application/ohttp-keys`` from an untrusted peer, at most 64 KiB.

    Returns:
        What is known here, in order; possibly nothing.

    Raises:
        ConfigurationError: any configuration is malformed, or one key id stands twice.
    """
    if len(data) > CONFIGS_LIMIT_BYTES:
        raise ConfigurationError(f"key configurations: expected at most {CONFIGS_LIMIT_BYTES} bytes")
    if not data:
        raise ConfigurationError("key configurations: expected at least one, got none")
    configs: list[KeyConfig] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[start - _LENGTH_BYTES : start], "big")
        if position > len(data):
            raise ConfigurationError("key configurations: the list is truncated")
        config = _parse(data[start:position])
        if config is not None:
            configs.append(config)
    if len({config.key_id for config in configs}) != len(configs):
        raise ConfigurationError("key configurations: expected each key id once")
    return tuple(configs)


def _encode(config: KeyConfig) -> bytes:
    pairs = b"".join(suite.kdf.to_bytes(2, "big") + suite.aead.to_bytes(2, "big") for suite in config.suites)
    head = config.key_id.to_bytes(1, "big") + config.kem.to_bytes(2, "big")
    return head + config.public_key + len(pairs).to_bytes(_LENGTH_BYTES, "big") + pairs


def _parse(data: bytes) -> KeyConfig | None:
    """Parse one configuration; None where nothing in it is known here."""
    if len(data) < _HEAD_BYTES:
        raise ConfigurationError("key configuration: truncated")
    try:
        kem = Kem(int.from_bytes(data[1:_HEAD_BYTES], "big"))
    except ValueError:
        return None
    key_end = _HEAD_BYTES + kem.public_key_bytes
    pairs = data[key_end + _LENGTH_BYTES :]
    if (
        len(pairs) < _PAIR_BYTES
        or len(pairs) % _PAIR_BYTES
        or len(pairs) != int.from_bytes(data[key_end : key_end + _LENGTH_BYTES], "big")
    ):
        raise ConfigurationError(
            f"key configuration: expected a key of {kem.public_key_bytes} bytes and pairs of algorithms"
        )
    suites = _suites(kem, pairs)
    if not suites:
        return None
    return KeyConfig(key_id=data[0], kem=kem, public_key=data[_HEAD_BYTES:key_end], suites=suites)


def _suites(kem: Kem, pairs: bytes) -> tuple[Suite, ...]:
    known: list[Suite] = []
    for start in range(0, len(pairs), _PAIR_BYTES):
        kdf, aead = (int.from_bytes(pairs[at : at + 2], "big") for at in (start, start + 2))
        if kdf in _KDFS and aead in _AEADS:
            known.append(Suite(kem, Kdf(kdf), Aead(aead)))
    return tuple(known)
