"""The models that this process serves: fetched, checked, decrypted into memory, opened.

What may be served follows from the release alone. The store only holds bytes that prove to be the promised
ones.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from s3ml.bundle import ModelFiles, bundle_location, decrypt_payload, open_bundle
from s3ml.keyservice.documents import MANIFEST_TYPE, ModelManifest, Release, ReleasedModel
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.memory import return_free_memory
from s3ml.modelserver.runtimes import Runtime
from s3ml.modelserver.store import BundleStore
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from s3ml.primitives.signing import VerifyKey
from s3ml.primitives.units import GIB

# Larger payloads than this are refused before a byte is read.
PAYLOAD_LIMIT_BYTES = 4 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model version that is ready to compute."""

    name: str
    version: str
    manifest_sha256: str
    runtime: Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSet:
    """Everything that is loaded, by name and version; never changes, only gets replaced."""

    models: Mapping[tuple[str, str], LoadedModel] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, name: str, version: str | None) -> LoadedModel | None:
        """Return a model; without a version, the one with the highest number."""
        if version is None:
            version = max(self.versions(name), key=int, default="")
        return self.models.get((name, version))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the loaded versions of a model, lowest first."""
        return tuple(sorted((v for n, v in self.models if n == name), key=int))

    def __len__(self) -> int:
        return len(self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronised:
    """What a release turned into: the models that are loaded, and why others are not, a line each."""

    models: ModelSet
    failures: tuple[str, ...]


class Repository:
    """Keeps the loaded models in step with releases.

    Args:
        store: Where bundles lie.
        open_runtime: Opens a decrypted model.
        log: For models that came, went or failed.
    """

    __slots__ = ("_log", "_models", "_open_runtime", "_store")

    def __init__(
        self, store: BundleStore, *, open_runtime: Callable[[ModelFiles], Runtime], log: EventLog
    ) -> None:
        self._store = store
        self._open_runtime = open_runtime
        self._log = log
        self._models = ModelSet()

    def synchronise(self, release: Release) -> Synchronised:
        """Load what `release` names and is not loaded, drop what it does not name; blocking.

        A model that fails leaves the others alone: it is logged, counted, and tried again at the next call.

        Args:
            release: Opened and verified.
        """
        loaded: dict[tuple[str, str], LoadedModel] = {}
        failures: list[str] = []
        for released in release.models:
            try:
                manifest = check_manifest(released.manifest, release)
                model = self._keep_or_load(released, manifest)
            except (S3MLError, MemoryError) as error:
                reason = str(error) or "too little memory"
                failures.append(reason)
                self._log_failure(released, reason)
            else:
                loaded[model.name, model.version] = model
        for name, version in self._models.models.keys() - loaded.keys():
            self._log.write("model-unloaded", model=name, version=version)
        self._models = ModelSet(models=MappingProxyType(loaded))
        return Synchronised(models=self._models, failures=tuple(failures))

    def clear(self) -> None:
        """Let go of every model; requests that are being computed finish."""
        self._models = ModelSet()

    def _keep_or_load(self, released: ReleasedModel, manifest: ModelManifest) -> LoadedModel:
        digest = hashlib.sha256(released.manifest.payload).hexdigest()
        present = self._models.models.get((manifest.model, manifest.model_version))
        if present is not None and present.manifest_sha256 == digest:
            return present
        runtime = self._open_runtime(self._fetch(released, manifest))
        return_free_memory()
        self._log.write("model-loaded", model=manifest.model, version=manifest.model_version)
        return LoadedModel(
            name=manifest.model, version=manifest.model_version, manifest_sha256=digest, runtime=runtime
        )

    def _fetch(self, released: ReleasedModel, manifest: ModelManifest) -> ModelFiles:
        location = bundle_location(manifest.model, manifest.model_version)
        with self._store.open(location) as file:
            bundle = open_bundle(file)
            if bundle.manifest.payload != released.manifest.payload:
                raise UntrustedPeerError(
                    f"bundle {location}: expected the released manifest, got another: store the signed bundle"
                )
            return decrypt_payload(
                bundle.payload,
                released.identity,
                expected_sha256=manifest.payload_sha256,
                expected_bytes=manifest.payload_bytes,
                limit_bytes=PAYLOAD_LIMIT_BYTES,
            )

    def _log_failure(self, released: ReleasedModel, reason: str) -> None:
        try:
            manifest = msgspec.json.decode(released.manifest.payload, type=ModelManifest)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._log.write("model-failed", error=reason)
        else:
            self._log.write(
                "model-failed", model=manifest.model, version=manifest.model_version, error=reason
            )


def check_manifest(envelope: Envelope, release: Release) -> ModelManifest:
    """Return a released manifest that permits what this process is about to do.

    The key service checked all of this before; a model server that believed it would be one fault away from
    opening a model where its owner forbade it.

    1. One of the service's model owners signed it.
    2. It names this deployment, this service and this policy.

    Raises:
        UntrustedPeerError: it is malformed, or names another deployment, service or policy.
        SignatureError: no model owner signed it.
    """
    owners = [VerifyKey.parse(text) for text in release.model_owners]
    payload = envelope.verify(owners, threshold=1, payload_type=MANIFEST_TYPE)  # (1)
    try:
        manifest = msgspec.json.decode(payload, type=ModelManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UntrustedPeerError(f"model manifest: {error}") from error
    got = (manifest.deployment, manifest.service, manifest.policy_sha256)  # (2)
    expected = (release.deployment, release.service, release.policy_sha256)
    if got != expected:
        raise UntrustedPeerError(
            f"model manifest: expected deployment, service and policy {expected}, got {got}"
        )
    return manifest
