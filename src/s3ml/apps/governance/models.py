"""What a model owner does: pack and encrypt a model, and sign the permission to open it."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from s3ml.apps.governance.changes import Deployment, read_manifest
from s3ml.bundle import Declaration, encrypt_payload, write_bundle
from s3ml.keyservice.client import model_manifest, seal_identity
from s3ml.keyservice.documents import AnonymousCallers, CallerRule, ServiceDocument, ServiceTimes
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import check_name, check_version
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.primitives.units import MIB

_NOTHING_DECLARED = Declaration()


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model owner hands to the deployment's owners: a signed manifest, and its sealed identity.

    The identity is sealed to the key service's intake key; nobody on the way can open it.
    """

    manifest: Envelope
    sealed_identity: bytes


def bundle_path(store: Path, model: str, version: str) -> Path:
    """Return where a model version lies in a store."""
    return store / model / f"{version}.s3ml"


def pack(
    source: Path,
    *,
    store: Path,
    model: str,
    version: str,
    service: str,
    policy_sha256: str,
    deployment: Deployment,
    key: SigningKey,
    progress: Callable[[int, int], None],
    declaration: Declaration = _NOTHING_DECLARED,
    leave_out: frozenset[str] = frozenset(),
) -> Grant:
    """Encrypt a model under an identity of its own, sign it, and put the bundle into `store`.

    Args:
        source: An ONNX or LiteRT file, or a folder that holds ``model.onnx`` or ``model.tflite``.
        store: The folder of bundles; the operator's.
        model: The model's name.
        version: Its version, a positive number.
        service: The one service that may open it.
        policy_sha256: The digest of the one policy under which it may be opened.
        deployment: Where the identity is sealed to.
        key: The model owner's.
        progress: Told (bytes done, bytes in all).
        declaration: What the model's owner says of it: batching, for one.
        leave_out: Names of files of a folder that are not the model's.

    Raises:
        ConfigurationError: names or source are wrong, the version exists already, or the disk is full.
    """
    check_name(model, what="model")
    check_version(version, what="version")
    check_name(service, what="service")
    path = bundle_path(store, model, version)
    if path.exists():
        raise ConfigurationError(f"{path}: exists already; a version is packed once: choose the next")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path.parent}: {error.strerror}") from error
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=path.parent) as folder:
        payload = Path(folder) / "payload.age"
        encrypted = encrypt_payload(
            source, payload, progress=progress, declaration=declaration, leave_out=leave_out
        )
        sealed_identity = seal_identity(
            deployment.authority,
            encrypted.identity,
            service=service,
            policy_sha256=policy_sha256,
            model=model,
            model_version=version,
        )
        signed = model_manifest(
            deployment=deployment.genesis.deployment,
            service=service,
            policy_sha256=policy_sha256,
            model=model,
            model_version=version,
            payload_sha256=encrypted.sha256,
            payload_bytes=encrypted.size_bytes,
            sealed_identity=sealed_identity,
        ).with_signature(key)
        write_bundle(path, signed, payload)
    return Grant(manifest=signed, sealed_identity=sealed_identity)


def write_grant(path: Path, grant: Grant) -> None:
    """Write a grant to a file.

    Raises:
        ConfigurationError: it cannot be written.
    """
    write_atomically(path, msgspec.json.encode(grant))


def read_grant(path: Path) -> Grant:
    """Read a grant from a file.

    Raises:
        ConfigurationError: the file is missing or holds no grant.
    """
    data = read_limited(path, limit_bytes=MIB, what="grant")
    try:
        return msgspec.json.decode(data, type=Grant)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"grant {path}: {error}") from error


def service_times(*, epoch_s: int, lease_s: int, bundle_s: int) -> ServiceTimes:
    """Return how long a service's keys are used, in seconds.

    Raises:
        ConfigurationError: a number is out of its range.
    """
    try:
        return msgspec.convert(
            {"epoch_s": epoch_s, "lease_s": lease_s, "bundle_s": bundle_s}, type=ServiceTimes
        )
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"service times: {error}") from error


def service_document(
    service: str,
    *,
    policy: str,
    grants: Sequence[Grant],
    model_owners: Sequence[VerifyKey],
    callers: Sequence[CallerRule] = (AnonymousCallers(),),
    times: ServiceTimes | None = None,
) -> ServiceDocument:
    """Write the document that makes a service of granted models.

    Args:
        service: Its name.
        policy: The name of the governed policy.
        grants: At least one; all for this service under one policy digest.
        model_owners: Whose signatures count; each grant needs one of them.
        callers: Who may call; anybody, when not given.
        times: How long its keys are used; the defaults, when not given.

    Raises:
        ConfigurationError: no grants, or grants for something else, or of somebody else.
    """
    if not grants:
        raise ConfigurationError("service: expected at least one --model GRANT")
    manifests = [read_manifest(grant.manifest) for grant in grants]
    for grant, manifest in zip(grants, manifests, strict=True):
        if manifest.service != service:
            raise ConfigurationError(
                f"grant of {manifest.model} {manifest.model_version}: is for service {manifest.service}, "
                f"not for {service}"
            )
        if not grant.manifest.signers(model_owners):
            raise ConfigurationError(
                f"grant of {manifest.model} {manifest.model_version}: no named model owner signed it"
            )
    digests = {manifest.policy_sha256 for manifest in manifests}
    if len(digests) > 1:
        raise ConfigurationError("grants: are for different policies; pack them again under one")
    return ServiceDocument(
        service=check_name(service, what="service"),
        policy=check_name(policy, what="policy"),
        policy_sha256=digests.pop(),
        callers=tuple(callers),
        times=times or ServiceTimes(),
        model_owners=tuple(str(key) for key in model_owners),
        models=tuple(grant.manifest for grant in grants),
    )
