"""Whether a wrapping key opens what is stored: what a rehearsal finds out.

Source: docs/spec/recovery.md, section "Rehearsal".
"""

from collections.abc import Callable, Iterable

from s3ml.keyservice.errors import mismatch
from s3ml.keyservice.escrow.collector import Findings
from s3ml.keyservice.storage import SecretName
from s3ml.keyservice.vault import Vault
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.secret import SecretBytes


def try_wrapping_key(
    wrapping_key: SecretBytes,
    *,
    deployment: str,
    names: Iterable[SecretName],
    read: Callable[[SecretName], bytes | None],
) -> Findings:
    """Open every secret of `names`, and keep nothing of any.

    Args:
        wrapping_key: What shares gave back.
        deployment: The deployment's id.
        names: What must open, from the log: the deployment's keys and every model's identity.
        read: Returns the stored ciphertext of a name, such as `Storage.secret`.

    Raises:
        StorageUnavailableError: storage does not answer.
    """
    vault = Vault(wrapping_key, deployment)
    opened, failed = 0, []
    for name in names:
        try:
            vault.unwrap(name, read(name))
        except StorageTamperedError as error:
            claim = " ".join(part for part in ("stored", name.kind, name.name) if part)
            failed.append(mismatch(claim, expected="opens", got=str(error)))
        else:
            opened += 1
    return Findings(opened=opened, failed=tuple(failed))
