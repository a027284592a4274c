"""`s3ml infer`: verify a service, seal inputs from a file, print the outputs."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from s3ml.apps.cli.console import print_json, warn_about
from s3ml.apps.cli.credentials import credentials_options, read_credentials
from s3ml.apps.cli.input_files import Array, read_inputs
from s3ml.apps.cli.options import FILE, gateway_option, json_option, trust_option
from s3ml.client import Client
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically
from s3ml.wire.oip import NUMPY_TYPES


@click.command("infer")
@click.argument("service")
@click.option("--input", "source", type=FILE, required=True, help="rows.csv, x.npy, or an OIP request.json.")
@click.option("--model", help="The model. [default: the service's only one]")
@click.option("--version", help="Its version. [default: the newest]")
@click.option("--tensor", help="The input's name, for .csv and .npy. [default: the model's only one]")
@credentials_options
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.001), default=30.0, show_default=True)
@click.option("-o", "--output", type=FILE, help="Write the outputs to this .npz instead of printing them.")
@trust_option
@gateway_option
@json_option
def command(
    service: str,
    *,
    source: Path,
    model: str | None,
    version: str | None,
    tensor: str | None,
    token_file: Path | None,
    caller_key: Path | None,
    timeout_s: float,
    output: Path | None,
    trust: Path,
    gateway: str,
    as_json: bool,
) -> None:
    """Send inputs from a file to SERVICE, sealed, and print its outputs: one line a row."""
    inputs = read_inputs(source)
    credentials = read_credentials(token_file, caller_key, command="infer")
    with Client(gateway, trust=trust, credentials=credentials, timeout_s=timeout_s) as client:
        verified = client.verify(service)
        warn_about(is_simulated=verified.is_simulated, is_fork_protected=verified.is_fork_protected)
        if isinstance(inputs, np.ndarray):
            chosen = model or _only_model(service, [summary.model for summary in verified.models])
            metadata = client.metadata(service, chosen, version=version)
            inputs = _named(inputs, tensor, metadata["inputs"])
        outputs = client.infer(service, inputs, model=model, version=version)
    if output is not None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **outputs)
        write_atomically(output, buffer.getvalue())
        click.echo(f"{output}: {', '.join(f'{name} {array.shape}' for name, array in outputs.items())}")
    elif as_json:
        print_json({"service": service, "outputs": {name: _plain(array) for name, array in outputs.items()}})
    else:
        _print_rows(outputs)


def _only_model(service: str, models: list[str]) -> str:
    if len(set(models)) != 1:
        raise ConfigurationError(
            f"service {service}: serves {', '.join(sorted(set(models)))}: name one with --model"
        )
    return models[0]


def _named(array: Array, tensor: str | None, declared: list[dict[str, Any]]) -> dict[str, Array]:
    """Give an array from a file its name and its datatype, as the model declares them."""
    names = [entry["name"] for entry in declared]
    if tensor is None and len(names) != 1:
        raise ConfigurationError(
            f"input: the model takes {', '.join(names)}: name one with --tensor, or use .json"
        )
    chosen = tensor if tensor is not None else names[0]
    if chosen not in names:
        raise ConfigurationError(f"input: the model takes {', '.join(names)}, not {chosen}")
    datatype = declared[names.index(chosen)]["datatype"]
    return {chosen: array.astype(NUMPY_TYPES[datatype])}


def _plain(array: Array) -> dict[str, Any]:
    values = array.astype("U") if array.dtype.kind in "OS" else array
    return {"shape": list(array.shape), "data": values.tolist()}


def _print_rows(outputs: Mapping[str, Array]) -> None:
    """Print a heading and one comma-separated line for each row of the outputs."""
    columns: list[tuple[str, list[Any]]] = []
    for name, array in outputs.items():
        flat = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
        width = flat.shape[1]
        columns += [
            (name if width == 1 else f"{name}[{index}]", flat[:, index].tolist()) for index in range(width)
        ]
    click.echo(",".join(name for name, _ in columns))
    for row in zip(*(values for _, values in columns), strict=False):
        click.echo(",".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row))
