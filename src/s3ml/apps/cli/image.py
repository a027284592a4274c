"""`s3ml image`: what an enclave under Gramine is made of."""

from dataclasses import asdict
from pathlib import Path

import click

from s3ml.apps.cli.console import print_json
from s3ml.apps.cli.options import FILE, FOLDER, json_option
from s3ml.apps.images.lint import RULES, lint_manifest
from s3ml.apps.images.manifest import EnclaveShape
from s3ml.apps.images.plans import PLANS
from s3ml.apps.images.reading import MANIFEST_LIMIT_BYTES
from s3ml.apps.images.recipe import write_image
from s3ml.attestation.simulated.launch import TRACING, Role
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited

_TEMPLATE = Path("images/gramine/enclave.manifest.toml.j2")
_RUNTIME = Path("/usr/lib/x86_64-linux-gnu/gramine/runtime/glibc")


@click.group("image")
def command() -> None:
    """Render and check images of enclaves for Gramine."""


@command.command("render")
@click.argument("role", type=click.Choice(["key-service", "model-server"]))
@click.option("-o", "--output", type=FOLDER, required=True, help="A new folder for code and manifest.")
@click.option(
    "--template", type=FILE, default=_TEMPLATE, show_default=True, help="The manifest's Jinja template."
)
@click.option(
    "--runtime", type=FOLDER, default=_RUNTIME, show_default=True, help="Gramine's own C library: its folder."
)
@click.option(
    "--enclave-size", metavar="SIZE", help="A power of two, as in 512M or 2G. [default: the role's]"
)
@click.option("--threads", type=int, help="Thread slots, 4 to 1024. [default: the role's]")
@click.option("--svn", type=int, default=1, show_default=True, help="The build's security version.")
@click.option(
    "--traces", is_flag=True, help="A model server that may trace requests: they tell its operator more."
)
@click.option("--edmm", is_flag=True, help="Add memory while the enclave runs; needs SGX2.")
@json_option
def render_command(
    role: Role,
    *,
    output: Path,
    template: Path,
    runtime: Path,
    enclave_size: str | None,
    threads: int | None,
    svn: int,
    traces: bool,
    edmm: bool,
    as_json: bool,
) -> None:
    """Copy the installed code of ROLE, and write the manifest with the digest of every file.

    The same code makes the same manifest. It is signed by gramine-sgx-sign, which prints the MRENCLAVE.
    """
    if traces and role != "model-server":
        raise ConfigurationError("--traces: expected model-server, got key-service: it makes none")
    plan = PLANS[role]
    shape = EnclaveShape(
        enclave_size=enclave_size or plan.enclave_size,
        threads=plan.threads if threads is None else threads,
        svn=svn,
        edmm=edmm,
    )
    additions = TRACING if traces else ()
    written = write_image(role, output, template=template, shape=shape, runtime=runtime, additions=additions)
    if as_json:
        print_json({**asdict(written), "manifest": str(written.manifest), "role": role, **asdict(shape)})
    else:
        click.echo(f"{written.manifest}: {written.file_count} files, {written.size_bytes} bytes")
        click.echo(f"sha256 of the manifest: {written.sha256}")


@command.command("lint")
@click.argument("manifest", type=FILE)
@json_option
def lint_command(manifest: Path, *, as_json: bool) -> None:
    """Check a manifest, before or after it was signed, against the rules that an enclave's promise rests on.

    Ends with status 2 where one is broken.
    """
    data = read_limited(manifest, limit_bytes=MANIFEST_LIMIT_BYTES, what="manifest")
    findings = lint_manifest(data)
    if as_json:
        print_json({"rules": len(RULES), "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.rule}: {finding.message}")
    if findings:
        broken = sorted({finding.rule for finding in findings})
        raise ConfigurationError(
            f"{manifest}: breaks {len(broken)} of {len(RULES)} rules: {', '.join(broken)}"
        )
    if not as_json:
        click.echo(f"{manifest}: keeps all {len(RULES)} rules")
