"""Signing a change: drafted from a document, or taken up from another owner's message file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import msgspec
from rich.markup import escape

from s3ml.apps.cli.console import facts, stderr
from s3ml.apps.governance.amendments import explain_effects, standing_body
from s3ml.apps.governance.changes import Deployment, parse_message, read_statement
from s3ml.apps.governance.keys import read_signing_key
from s3ml.apps.transparency.describing import describe_body
from s3ml.keyservice.documents import ControlMessage
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.files import read_limited, write_atomically


def read_message(path: Path) -> ControlMessage | None:
    """Read a message file, or nothing where `path` holds something else.

    Raises:
        ConfigurationError: it is missing, unreadable or too large.
    """
    return parse_message(read_limited(path, limit_bytes=ENVELOPE_LIMIT_BYTES, what="file"))


def read_signed_message(path: Path) -> ControlMessage:
    """Read a message that another owner signed before.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    message = read_message(path)
    if message is None:
        raise ConfigurationError(f"{path}: is no message; expected what an owner signed before")
    return message


def draft(
    deployment: Deployment,
    resource: str,
    body: bytes,
    attachments: tuple[bytes, ...] = (),
    *,
    method: Literal["PUT", "DELETE"] = "PUT",
) -> ControlMessage:
    """Write an unsigned change to `resource`, dated now."""
    now = datetime.now(UTC)
    return deployment.draft(resource, body, attachments=attachments, now=now, method=method)


def sign_and_send(
    deployment: Deployment,
    message: ControlMessage,
    *,
    keys: tuple[Path, ...],
    output: Path,
    remarks: Sequence[str] = (),
) -> None:
    """Show what a message changes, sign it, and send it once enough owners signed; else keep it in a file.

    Args:
        deployment: Pinned, and followed to who governs it now.
        message: What is to be signed.
        keys: The signers' private keys.
        output: Where it waits for more signatures.
        remarks: What else the signers should see, as console markup.

    Raises:
        ConfigurationError: a key is none of the owners', or the message does not fit the deployment.
        KeyServiceRefusedError: the key service refuses the change.
        UnavailableError: it does not answer, or waits for witnesses; the file keeps the message.
    """
    statement = read_statement(message)
    stderr.print("[bold]You sign this change:[/]")
    rows = [
        ("resource", f"{statement.resource}, version {statement.resource_version}"),
        ("replaces", statement.previous_sha256 or "nothing"),
        ("deployment", statement.deployment),
        ("body SHA-256", statement.body_sha256),
    ]
    resource, method = statement.resource, statement.method
    found = deployment.resource(resource)
    standing = found.body if found else standing_body(deployment.authority, resource)
    if method == "PUT":
        rows += [("", escape(line)) for line in describe_body(resource, message.body)]
    rows += [("", escape(line)) for line in explain_effects(resource, method, standing, message.body)]
    rows += [("", line) for line in remarks]
    stderr.print(facts(rows))
    for key in keys:
        message = deployment.sign(message, read_signing_key(key))
    if missing := deployment.missing_signatures(message):
        write_atomically(output, msgspec.json.encode(message))
        click.echo(f"{output}: signed; {missing} more owner(s) sign it: s3ml sign {output}")
        return
    try:
        reply = deployment.submit(message)
    except UnavailableError:  # it may be stored, and takes effect once however often it is sent
        write_atomically(output, msgspec.json.encode(message))
        stderr.print(f"{escape(str(output))}: keeps the signed change; s3ml sign sends it again")
        raise
    told = "holds" if method == "PUT" else "takes it away"
    version = f"version {statement.resource_version}"
    click.echo(f"{resource}: {version} {told}, as entry {reply.index} of the log")
