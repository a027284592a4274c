"""`s3ml model`: what model owners do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.console import print_json, stderr
from s3ml.apps.cli.input_files import read_inputs
from s3ml.apps.cli.options import FILE, FOLDER, gateway_option, json_option, trust_option
from s3ml.apps.governance.keys import read_signing_key
from s3ml.apps.governance.models import Grant, bundle_path, pack, write_grant
from s3ml.apps.packing.conversion import TOLERANCE
from s3ml.apps.packing.preparing import PackingOptions, PreparedModel, prepared
from s3ml.apps.packing.repository import FoundModel, find_model, find_models, is_repository
from s3ml.bundle.profile import read_profile
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically

F = TypeVar("F", bound=Callable[..., Any])


@click.group("model")
def command() -> None:
    """Model owners: pack, encrypt and sign a model."""


def conversion_options(function: F) -> F:
    """Add what the conversion of a scikit-learn model needs."""
    for option in (
        click.option(
            "--trust-source",
            "trusts_source",
            is_flag=True,
            help="Run the code in a .joblib or .pkl, take any type in a .skops: only if you made it.",
        ),
        click.option(
            "--tolerance",
            type=click.FloatRange(0),
            default=TOLERANCE,
            show_default=True,
            help="The largest difference of a converted model's numbers.",
        ),
        click.option("--samples", type=FILE, help="Rows (.npy, .csv) to compare a converted model on."),
    ):
        function = option(function)
    return function


def packing_options(function: F) -> F:
    """Add what a bundle says of a model."""
    for option in (
        click.option("--try/--no-try", "is_tried", default=True, help="Open it first, as the server will."),
        click.option("--settings", type=FILE, help="model.toml, config.pbtxt or model-settings.json."),
        click.option("--profile", type=FILE, help="Take batching and resources from `s3ml profile`."),
        click.option(
            "--max-delay-us", type=click.IntRange(0), help="How long a request waits for others. [µs]"
        ),
        click.option("--max-batch", type=click.IntRange(1, 1024), help="The most rows computed at once."),
    ):
        function = option(function)
    return conversion_options(function)


@command.command("pack")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--service", required=True, help="The one service that may open it.")
@click.option("--policy", required=True, help="The governed policy under which it may be opened.")
@click.option("--name", help="The model's name. [default: the service's]")
@click.option("--version", help="A positive number; a version is packed once. [default: 1]")
@click.option("--store", type=FOLDER, required=True, help="The folder of encrypted bundles.")
@click.option("--key", type=FILE, required=True, help="The model owner's private key.")
@packing_options
@trust_option
@gateway_option
@json_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The grant. [default: NAME-VERSION.grant.json]"
)
def pack_command(
    source: Path,
    *,
    service: str,
    policy: str,
    name: str | None,
    version: str | None,
    store: Path,
    key: Path,
    trust: Path,
    gateway: str,
    as_json: bool,
    output: Path | None,
    profile: Path | None,
    settings: Path | None,
    max_batch: int | None,
    max_delay_us: int | None,
    samples: Path | None,
    tolerance: float,
    trusts_source: bool,
    is_tried: bool,
) -> None:
    """Encrypt SOURCE into a bundle, and sign who may open it.

    SOURCE is an .onnx or .tflite file, a folder with model.onnx or model.tflite, a scikit-learn model
    (.skops, .joblib, .pkl), which becomes ONNX, or a repository MODEL/VERSION/model.onnx, of which everything
    is packed that is not in the store yet.

    The bundle goes to the store, which anyone may read. The grant goes to the deployment's owners.
    """
    options = PackingOptions(
        max_batch=max_batch,
        max_delay_us=max_delay_us,
        profile=None if profile is None else read_profile(profile),
        samples=samples,
        tolerance=tolerance,
        trusts_source=trusts_source,
        is_tried=is_tried,
    )
    if is_whole := is_repository(source):
        _refuse_for_repository(name=name, version=version, settings=settings, profile=profile)
        found = find_models(source)
    else:
        found = (find_model(source, model=name or service, version=version or "1", settings=settings),)
    signing_key = read_signing_key(key)
    deployment = connect(trust, gateway)
    pack_one = partial(
        pack,
        deployment=deployment,
        key=signing_key,
        store=store,
        service=service,
        policy_sha256=deployment.governed_policy(policy).body_sha256,
    )
    reports: list[dict[str, object]] = []
    for one in found:
        path = _grant_path(one, output, is_whole=is_whole)
        if is_whole and bundle_path(store, one.model, one.version).exists():
            click.echo(f"{bundle_path(store, one.model, one.version)}: packed already", err=True)
            continue
        with prepared(one, options, read_samples=read_samples) as model:
            _tell(one, model, tolerance=tolerance)
            _pack(pack_one, one, model, path)
        reports.append(_report(one, model, store=store, grant=path))
        if not as_json:
            _tell_packed(one, store=store, grant=path, service=service)
    if as_json:
        print_json({"packed": reports})


@command.command("convert")
@click.argument("source", type=FILE)
@conversion_options
@click.option("-o", "--output", type=FILE, required=True, help="The ONNX model.")
def convert_command(
    source: Path, *, samples: Path | None, tolerance: float, trusts_source: bool, output: Path
) -> None:
    """Convert SOURCE, a scikit-learn model, to ONNX, and compare both on samples.

    `s3ml model pack` does the same on its way; this is for profiling the model first, or for looking at it.
    """
    found = find_model(source, model=source.stem, version="1")
    options = PackingOptions(samples=samples, tolerance=tolerance, trusts_source=trusts_source)
    with prepared(found, options, read_samples=read_samples) as model:
        if model.conversion is None:
            raise ConfigurationError(f"{source}: expected a scikit-learn model: .skops, .joblib or .pkl")
        _tell(found, model, tolerance=tolerance)
        write_atomically(output, model.conversion.onnx, mode=0o600)
    click.echo(f"{output}: converted")


def read_samples(path: Path) -> Any:
    """Read rows of numbers.

    Raises:
        ConfigurationError: the file holds something else.
    """
    rows = read_inputs(path)
    if isinstance(rows, dict):
        raise ConfigurationError(f"samples {path}: expected .npy or .csv, got a request")
    return rows


def _refuse_for_repository(**options: object) -> None:
    """Refuse what can be said of one model only."""
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise ConfigurationError(f"{given[0]}: is for one model; a repository's folders and files say it")


def _grant_path(found: FoundModel, output: Path | None, *, is_whole: bool) -> Path:
    name = f"{found.model}-{found.version}.grant.json"
    if not is_whole:
        return output or Path(name)
    folder = output or Path()
    if not folder.is_dir():
        raise ConfigurationError(f"--output {folder}: expected a folder for the grants of a repository")
    return folder / name


def _pack(pack_one: Callable[..., Grant], found: FoundModel, model: PreparedModel, grant_path: Path) -> None:
    columns = (TextColumn("packing {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(f"{found.model} {found.version}", total=None)
        grant = pack_one(
            model.source,
            model=found.model,
            version=found.version,
            declaration=model.declaration,
            leave_out=model.leave_out,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_grant(grant_path, grant)


def _tell(found: FoundModel, model: PreparedModel, *, tolerance: float) -> None:
    """Say on standard error what was taken from where, and how a conversion compares."""
    if found.settings.path is not None:
        click.echo(f"{found.settings.path}: settings", err=True)
    if model.conversion is not None:
        click.echo(f"{found.source}: compared with ONNX on {model.conversion.rows} samples:", err=True)
        for one in model.conversion.compared:
            click.echo(f"  {one.describe(tolerance)}", err=True)


def _tell_packed(found: FoundModel, *, store: Path, grant: Path, service: str) -> None:
    click.echo(f"{bundle_path(store, found.model, found.version)}: encrypted")
    click.echo(
        f"{grant}: give it to the deployment's owners, with your public key: "
        f"s3ml service sign {service} --policy POLICY --model {grant} --model-owner YOURS.pub"
    )


def _report(found: FoundModel, model: PreparedModel, *, store: Path, grant: Path) -> dict[str, object]:
    declaration = model.declaration
    return {
        "model": found.model,
        "version": found.version,
        "bundle": str(bundle_path(store, found.model, found.version)),
        "grant": str(grant),
        "inputs": declaration.inputs,
        "outputs": declaration.outputs,
        "batching": declaration.batching,
        "resources": declaration.resources,
    }
