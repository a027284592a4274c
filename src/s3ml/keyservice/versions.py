"""The order of changes: each creates the next version of its resource, and names the body that it replaces.

So a replayed change is always too old, and one that was kept back holds for what its signers saw, or not at
all.

Source: docs/spec/control-message.md.
"""

from s3ml.keyservice.documents import ControlStatement
from s3ml.keyservice.errors import ConflictError


def expect_next(statement: ControlStatement, *, version: int, sha256: str) -> None:
    """Check that `statement` changes what stands.

    Args:
        statement: What owners signed.
        version: The resource's present version, 0 where there is none.
        sha256: The digest of its present body, empty where there is none.

    Raises:
        ConflictError: it creates another version, or replaces another body.
    """
    if statement.resource_version != version + 1:
        raise ConflictError(
            f"{statement.resource}: resource version: expected {version + 1}, "
            f"got {statement.resource_version}"
        )
    if statement.previous_sha256 != sha256:
        raise ConflictError(
            f"{statement.resource}: body that it replaces: expected {sha256 or 'none'}, "
            f"got {statement.previous_sha256 or 'none'}"
        )
