"""The models that this process serves: fetched, checked, decrypted into memory, opened, and let go again.

What may be served follows from the release alone. The store only holds bytes that prove to be the promised
ones. Models come and go while others are used: a set is replaced, never changed, and whoever computes with a
model keeps it until the computation ends.
"""

import hashlib
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType

import msgspec

from s3ml.bundle import Batching, ModelFiles, bundle_location, decrypt_payload, open_bundle
from s3ml.keyservice.documents import MANIFEST_TYPE, ModelManifest, Release, ReleasedModel
from s3ml.modelserver.batching import is_batchable
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.memory import (
    MemoryBudget,
    estimate_bytes,
    large_pieces_apart,
    opening_bytes,
    return_free_memory,
)
from s3ml.modelserver.models import LoadedModel, ModelKey, ModelSet
from s3ml.modelserver.runtimes import ModelUnusableError, Runtime
from s3ml.modelserver.store import BundleStore
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from s3ml.primitives.signing import VerifyKey
from s3ml.wire.oip import IndexEntry, ModelState

NOT_LOADED = "not loaded"
UNLOADED = "unloaded by request"
UNLOADING = "requests on it are being answered"


class UnknownModelError(S3MLError):
    """The release names no such model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronised:
    """What a release turned into: the models that are loaded, and why others are not, a line each."""

    models: ModelSet
    failures: tuple[str, ...]


class Repository:
    """Keeps the loaded models in step with releases, and with what callers asked to load and unload.

    Args:
        store: Where bundles lie.
        open_runtime: Opens a decrypted model.
        budget: What models may hold of memory.
        log: For models that came, went or failed.
    """

    __slots__ = (
        "_leaving",
        "_loading",
        "_log",
        "_models",
        "_one_at_a_time",
        "_open_runtime",
        "_reasons",
        "_release",
        "_store",
        "_unwanted",
        "budget",
    )

    def __init__(
        self,
        store: BundleStore,
        *,
        open_runtime: Callable[[ModelFiles], Runtime],
        budget: MemoryBudget,
        log: EventLog,
    ) -> None:
        self._store = store
        self._open_runtime = open_runtime
        self.budget = budget
        self._log = log
        self._models = ModelSet()
        self._release: Release | None = None
        self._unwanted: frozenset[str] = frozenset()
        self._reasons: Mapping[ModelKey, str] = {}
        self._loading: ModelKey | None = None
        self._leaving: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
        # Opening a model takes twice its size for a while: never two at the same time.
        self._one_at_a_time = Lock()

    @property
    def models(self) -> ModelSet:
        """What is loaded."""
        return self._models

    def retain(self, release: Release) -> ModelSet:
        """Let go of what `release` does not name, before anything else is loaded; return what stays."""
        digests = {_digest(released.manifest) for released in release.models}
        stays = {key: m for key, m in self._models.models.items() if m.manifest_sha256 in digests}
        self._replace(stays)
        return self._models

    def synchronise(self, release: Release) -> Synchronised:
        """Load what `release` names and is not loaded, drop what it does not name; blocking.

        A model that fails leaves the others alone: it is logged, once for each reason, and tried again at the
        next call.
        One that was unloaded by request stays so.

        Args:
            release: Opened and verified.
        """
        with self._one_at_a_time:
            self._release = release
            self.retain(release)
            loaded: dict[ModelKey, LoadedModel] = {}
            reasons: dict[ModelKey, str] = {}
            failures: list[str] = []
            for released in release.models:
                try:
                    manifest = check_manifest(released.manifest, release)
                    if manifest.model in self._unwanted:
                        continue
                    model = self._keep_or_load(released, manifest)
                except (S3MLError, MemoryError) as error:
                    reason = str(error) or "too little memory"
                    failures.append(reason)
                    reasons |= self._log_failure(released, reason)
                else:
                    loaded[model.key] = model
            self._reasons = reasons
            if self._release is release:
                self._replace({key: m for key, m in loaded.items() if key[0] not in self._unwanted})
            return_free_memory()
            return Synchronised(models=self._models, failures=tuple(failures))

    def load(self, name: str) -> ModelSet:
        """Load every released version of a model that is not loaded; blocking.

        Raises:
            UnknownModelError: the release names no such model.
            S3MLError: why a version could not be loaded; others may be.
            MemoryError: there was too little memory.
        """
        with self._one_at_a_time:
            release = self._release
            wanted = [] if release is None else _named(release, name)
            if release is None or not wanted:
                raise UnknownModelError(f"model {name}: the service has no such model")
            self._unwanted -= {name}
            for released in wanted:
                manifest = check_manifest(released.manifest, release)
                model = self._keep_or_load(released, manifest)
                if self._release is release:
                    self._replace({**self._models.models, model.key: model})
            return self._models

    def unload(self, name: str) -> ModelSet:
        """Let go of every version of a model until it is loaded by request; who computes with it finishes.

        Raises:
            UnknownModelError: the release names no such model.
        """
        if self._release is None or not _named(self._release, name):
            raise UnknownModelError(f"model {name}: the service has no such model")
        self._unwanted |= {name}
        self._replace({key: model for key, model in self._models.models.items() if key[0] != name})
        return self._models

    def index(self) -> tuple[IndexEntry, ...]:
        """Return the state of every released version, by name and number."""
        leaving = {model.key for model in self._leaving}
        released = () if self._release is None else self._release.models
        keys = {key for one in released if (key := _key(one)) is not None}
        keys |= leaving
        return tuple(
            self._entry(key, is_leaving=key in leaving)
            for key in sorted(keys, key=lambda key: (key[0], int(key[1])))
        )

    def clear(self) -> None:
        """Let go of every model and every key; requests that are being computed finish."""
        self._release = None
        self._unwanted, self._reasons = frozenset(), {}
        self._leaving.update(self._models.models.values())
        self._models = ModelSet()

    def _entry(self, key: ModelKey, *, is_leaving: bool) -> IndexEntry:
        name, version = key
        if key in self._models.models:
            state, reason = ModelState.READY, ""
        elif key == self._loading:
            state, reason = ModelState.LOADING, ""
        elif is_leaving:
            state, reason = ModelState.UNLOADING, UNLOADING
        else:
            state = ModelState.UNAVAILABLE
            reason = UNLOADED if name in self._unwanted else self._reasons.get(key, NOT_LOADED)
        return IndexEntry(name=name, version=version, state=state, reason=reason)

    def _replace(self, loaded: Mapping[ModelKey, LoadedModel]) -> None:
        """Serve `loaded` from now on."""
        for key, model in self._models.models.items():
            if loaded.get(key) is not model:
                self._leaving.add(model)
            if key not in loaded:
                self._log.write("model-unloaded", model=key[0], version=key[1])
        released = () if self._release is None else self._release.models
        named = {stated[0] for one in released if (stated := _key(one)) is not None}
        self._models = ModelSet(models=MappingProxyType(dict(loaded)), unloaded=self._unwanted & named)

    def _keep_or_load(self, released: ReleasedModel, manifest: ModelManifest) -> LoadedModel:
        key = (manifest.model, manifest.model_version)
        digest = _digest(released.manifest)
        present = self._models.models.get(key)
        if present is not None and present.manifest_sha256 == digest:
            return present
        self._loading = key
        try:
            with large_pieces_apart():
                model = self._open(released, manifest, digest)
        finally:
            self._loading = None
        return_free_memory()
        self._log.write("model-loaded", model=model.name, version=model.version)
        return model

    def _open(self, released: ReleasedModel, manifest: ModelManifest, digest: str) -> LoadedModel:
        """Open a model within the budget; what it holds comes back when nobody uses it any more."""
        key = (manifest.model, manifest.model_version)
        self.budget.check(key, manifest.payload_bytes)
        files = self._fetch(released, manifest)
        resources = files.config.resources
        plaintext_bytes = sum(map(len, files.files.values()))
        need_bytes = estimate_bytes(plaintext_bytes) if resources is None else resources.memory_bytes
        most_bytes = max(need_bytes, opening_bytes(plaintext_bytes))
        self.budget.take(key, most_bytes)
        try:
            runtime = self._open_runtime(files)
            model = LoadedModel(
                name=manifest.model,
                version=manifest.model_version,
                manifest_sha256=digest,
                runtime=runtime,
                batching=check_batching(files.config.batching, runtime),
                memory_bytes=need_bytes,
            )
        except BaseException:
            self.budget.give(key, most_bytes)
            raise
        self.budget.lower(key, before_bytes=most_bytes, after_bytes=need_bytes)
        weakref.finalize(model, self.budget.give, key, need_bytes).atexit = False
        return model

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
                limit_bytes=self.budget.capacity_bytes,
            )

    def _log_failure(self, released: ReleasedModel, reason: str) -> dict[ModelKey, str]:
        key = _key(released)
        if key is None:
            self._log.write("model-failed", error=reason)
            return {}
        if self._reasons.get(key) != reason:
            self._log.write("model-failed", model=key[0], version=key[1], error=reason)
        return {key: reason}


def check_batching(batching: Batching | None, runtime: Runtime) -> Batching | None:
    """Return how a model's requests are batched.

    Raises:
        ModelUnusableError: its owner allows batches that the model cannot take.
    """
    if batching is not None and batching.max_size > 1 and not is_batchable(runtime.inputs, runtime.outputs):
        raise ModelUnusableError(
            "batching: expected a model whose inputs and outputs all vary in their first dimension: "
            "pack it without batching"
        )
    return batching


def _digest(manifest: Envelope) -> str:
    return hashlib.sha256(manifest.payload).hexdigest()


def _key(released: ReleasedModel) -> ModelKey | None:
    """Return the name and version that a manifest states, checked or not; None where it states none."""
    try:
        manifest = msgspec.json.decode(released.manifest.payload, type=ModelManifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return manifest.model, manifest.model_version


def _named(release: Release, name: str) -> list[ReleasedModel]:
    return [released for released in release.models if (key := _key(released)) is not None and key[0] == name]


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
