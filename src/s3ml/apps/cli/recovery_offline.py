"""What holders of recovery keys do without a network: keys, contributions, share files.

No secret goes to standard output, except by a flag that says so; files with secrets have mode 0600.
"""

import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.markup import escape

from s3ml.apps.cli.console import facts, print_json, stderr, warn_about_simulation
from s3ml.apps.cli.options import FILE, follow_option, json_option, trust_option
from s3ml.apps.governance.recovery import (
    IDENTITY_ENDING,
    generate_recovery_key,
    read_identity,
    read_request_file,
    read_share_copies,
    verify_request_file,
)
from s3ml.apps.governance.share_file import (
    SECRET_LIMIT_BYTES,
    SHARES_LIMIT,
    combine_files,
    encode_share,
    read_share_files,
    split_file,
)
from s3ml.client.trust import Trust
from s3ml.keyservice.documents import ContributionRequest
from s3ml.keyservice.escrow.holder import VerifiedRequest, answer, contribute, describe_request
from s3ml.keyservice.escrow.shares import open_shares
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.secret import SecretBytes

_force_option = click.option("--force", is_flag=True, help="Replace files that are there.")


@click.command("keygen")
@click.argument("name")
@_force_option
@json_option
def keygen_command(name: str, *, force: bool, as_json: bool) -> None:
    """Make a recovery key: NAME.agekey, which its holder keeps, and NAME.agepub, which owners sign."""
    recipient = generate_recovery_key(Path(name), now=datetime.now(UTC), replace=force)
    if as_json:
        print_json({"recipient": recipient, "identity_file": name + IDENTITY_ENDING})
        return
    click.echo(recipient)


@click.command("contribute")
@click.argument("request", type=FILE)
@click.option("--identity", type=FILE, required=True, help="Your recovery key (.agekey).")
@click.option("--shares", "copies", type=FILE, multiple=True, help="A kept copy of the encrypted shares.")
@trust_option
@follow_option
@click.option("--yes", is_flag=True, help="Do not ask before the share is sealed.")
@click.option("-o", "--output", type=FILE, required=True)
def contribute_command(
    request: Path,
    *,
    identity: Path,
    copies: tuple[Path, ...],
    trust: Path,
    is_following: bool,
    yes: bool,
    output: Path,
) -> None:
    """Show what REQUEST asks and which code asks it, and seal your share to that code alone. Offline.

    The request is verified against the trust file first. What is written is for `s3ml recovery submit`; only
    the TEE that made the request can open it, and only for the purpose that is shown.
    """
    reply = read_request_file(request)
    verified = verify_request_file(reply, Trust.read(trust), is_following=is_following, now=datetime.now(UTC))
    _show(verified)
    shares = open_shares(read_share_copies(copies, reply), [read_identity(identity)])
    contribution = contribute(verified, shares)
    if not yes:
        click.confirm(f"Give your share for this {verified.request.purpose}?", abort=True, err=True)
    _write(output, contribution)


@click.command("split")
@click.argument("file", type=FILE)
@click.option("--threshold", type=click.IntRange(1, SHARES_LIMIT), required=True, help="How many restore it.")
@click.option(
    "--shares", "count", type=click.IntRange(1, SHARES_LIMIT), required=True, help="How many in all."
)
@click.option("-o", "--output", "prefix", help="Prefix of the share files. [default: FILE]")
@_force_option
def split_command(file: Path, *, threshold: int, count: int, prefix: str | None, force: bool) -> None:
    """Split the small secret in FILE, such as an owner's key, into share files for paper or USB. Offline.

    Writes PREFIX.1.share, PREFIX.2.share, …. Fewer than the threshold say nothing about the secret.
    """
    secret = SecretBytes(read_limited(file, limit_bytes=SECRET_LIMIT_BYTES, what="secret"))
    shares = split_file(secret, threshold=threshold, count=count, random_bytes=secrets.token_bytes)
    paths = [Path(f"{prefix or file}.{share.piece.index}.share") for share in shares]
    for path in paths:
        _refuse_existing(path, force=force)
    for path, share in zip(paths, shares, strict=True):
        write_atomically(path, encode_share(share), mode=0o600)
        click.echo(f"{path}: {share.summary}")


@click.command("combine")
@click.argument("files", nargs=-1, type=FILE)
@click.option("--request", type=FILE, help="A replica's request for shares: answer it in one file.")
@click.option("--identity", "identities", type=FILE, multiple=True, help="A recovery key; repeat it.")
@trust_option
@follow_option
@click.option("-o", "--output", type=FILE, help="Where the restored secret, or the sealed answer, goes.")
@click.option("--print-secret", is_flag=True, help="Print the restored secret on standard output instead.")
@_force_option
def combine_command(
    files: tuple[Path, ...],
    *,
    request: Path | None,
    identities: tuple[Path, ...],
    trust: Path,
    is_following: bool,
    output: Path | None,
    print_secret: bool,
    force: bool,
) -> None:
    """Restore a secret from share FILES; with --request, answer a replica that asks for shares. Offline.

    With --request, this machine holds enough shares to be the deployment: use one without a network. The
    shares come from the request, or from FILES that were kept (`s3ml recovery shares`); the answer is sealed
    to the TEE that made the request, and goes to it by `s3ml recovery submit`.
    """
    if output is not None:
        _refuse_existing(output, force=force)
    if request is not None:
        if output is None or print_secret or not identities:
            raise ConfigurationError("combine: with --request, expected --identity and --output alone")
        pinned = Trust.read(trust)
        _write(output, _answer(request, files, identities, pinned, is_following=is_following))
        return
    if identities or not files:
        raise ConfigurationError("combine: expected share files, or --request with --identity")
    if (output is None) != print_secret:
        raise ConfigurationError("combine: expected either --output FILE or --print-secret")
    secret = combine_files(read_share_files(files))
    if output is None:
        sys.stdout.buffer.write(secret.reveal())
        sys.stdout.buffer.flush()
        return
    write_atomically(output, secret.reveal(), mode=0o600)
    click.echo(f"{output}: restored, {len(secret)} bytes")


def _answer(
    request: Path, files: tuple[Path, ...], identities: tuple[Path, ...], trust: Trust, *, is_following: bool
) -> ContributionRequest:
    reply = read_request_file(request)
    verified = verify_request_file(reply, trust, is_following=is_following, now=datetime.now(UTC))
    _show(verified)
    opened = [read_identity(path) for path in identities]
    return answer(verified, open_shares(read_share_copies(files, reply), opened))


def _write(path: Path, contribution: ContributionRequest) -> None:
    write_atomically(path, encode_document(contribution), mode=0o600)
    click.echo(f"{path}: sealed; s3ml recovery submit {path}")


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigurationError(f"{path}: exists already; choose another name, or use --force")


def _show(verified: VerifiedRequest) -> None:
    if verified.enclave.is_simulated:
        warn_about_simulation("what asks for your share runs on no TEE hardware; its host can read it.")
    stderr.print("[bold]Verified:[/]")
    stderr.print(facts([("", escape(line)) for line in describe_request(verified)]))
