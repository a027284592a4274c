"""`s3ml infer`: verify a service, seal inputs from a file, print the outputs."""

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from s3ml.apps.cli.console import print_json, warn_about
from s3ml.apps.cli.options import FILE, gateway_option, json_option, trust_option
from s3ml.client import Client
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.units import MIB
from s3ml.wire.oip import NUMPY_TYPES, OIPError, decode_infer_request

_LIMIT_BYTES = 64 * MIB

Array = NDArray[Any]


@click.command("infer")
@click.argument("service")
@click.option("--input", "source", type=FILE, required=True, help="rows.csv, x.npy, or an OIP request.json.")
@click.option("--model", help="The model. [default: the service's only one]")
@click.option("--version", help="Its version. [default: the newest]")
@click.option("--tensor", help="The input's name, for .csv and .npy. [default: the model's only one]")
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
    timeout_s: float,
    output: Path | None,
    trust: Path,
    gateway: str,
    as_json: bool,
) -> None:
    """Send inputs from a file to SERVICE, sealed, and print its outputs: one line a row."""
    inputs = _read(source)
    with Client(gateway, trust=trust, timeout_s=timeout_s) as client:
        verified = client.verify(service)
        warn_about(is_simulated=verified.is_simulated, is_fork_protected=verified.is_fork_protected)
        if isinstance(inputs, np.ndarray):
            metadata = client.metadata(service, model=model)
            inputs = _named(inputs, tensor, metadata["inputs"])
        outputs = client.infer(service, inputs, model=model, version=version)
    if output is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **outputs)
        write_atomically(output, buffer.getvalue())
        click.echo(f"{output}: {', '.join(f'{name} {array.shape}' for name, array in outputs.items())}")
    elif as_json:
        print_json({"service": service, "outputs": {name: _plain(array) for name, array in outputs.items()}})
    else:
        _print_rows(outputs)


def _read(path: Path) -> Array | dict[str, Array]:
    data = read_limited(path, limit_bytes=_LIMIT_BYTES, what="input")
    match path.suffix.lower():
        case ".csv":
            return _from_csv(path, data)
        case ".npy":
            try:
                array: Array = np.load(io.BytesIO(data), allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise ConfigurationError(f"input {path}: is no .npy array of plain numbers") from error
            return array
        case ".json":
            try:
                request = decode_infer_request(data, None)
            except OIPError as error:
                raise ConfigurationError(f"input {path}: {error}") from error
            return {given.name: given.array for given in request.inputs}
    raise ConfigurationError(f"input {path}: expected a file that ends in .csv, .npy or .json")


def _from_csv(path: Path, data: bytes) -> Array:
    """Read rows of numbers; a first row that is none is taken for a heading."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"input {path}: is no CSV in UTF-8: {error}") from error
    numbers: list[list[float]] = []
    for line, row in enumerate(rows, 1):
        with contextlib.suppress(ValueError):
            numbers.append([float(cell) for cell in row])
            continue
        if line > 1:
            raise ConfigurationError(
                f"input {path}: row {line}: expected numbers, got {','.join(row)[:60]!r}"
            )
    if not numbers:
        raise ConfigurationError(f"input {path}: expected at least one row of numbers")
    if len({len(row) for row in numbers}) > 1:
        raise ConfigurationError(f"input {path}: expected rows of equal length")
    return np.asarray(numbers, dtype=np.float64)


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


def _print_rows(outputs: dict[str, Array]) -> None:
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
