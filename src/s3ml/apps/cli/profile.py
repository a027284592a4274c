"""`s3ml profile`: what a model costs on this machine, measured, suggested, drawn."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from s3ml.apps.cli.console import print_json, stderr, stdout
from s3ml.apps.cli.options import FILE, json_option
from s3ml.apps.cli.profile_view import EMULATED_LINE, OUTSIDE_LINE, show_profile
from s3ml.apps.profiling.inputs import parse_shape
from s3ml.apps.profiling.paging import PagingStep, PagingWishes, measure_paging
from s3ml.apps.profiling.plot import check_plot, draw_profile
from s3ml.apps.profiling.session import Step, Wishes, measure_profile
from s3ml.bundle.paging import COPIES_LIMIT
from s3ml.bundle.profile import BATCH_LIMIT, Profile, encode_profile, read_profile
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically
from s3ml.tee_memory.emulated import EmulatedNode, Host, check_host

_UNITS = (("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("", 1.0))
_LONGEST_S = 3600.0
_PROFILE_SUFFIX = ".json"


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--max-batch",
    type=click.IntRange(1, BATCH_LIMIT),
    default=32,
    show_default=True,
    help="The largest batch, where the model takes several rows.",
)
@click.option("--threads", metavar="1,2,…", help="Threads of one run. [default: 1, 2, 4… up to the cores]")
@click.option("--duration", default="2s", show_default=True, help="Time for each point: 500ms, 2s.")
@click.option(
    "--shape",
    "shapes",
    metavar="INPUT=1,3,…",
    multiple=True,
    help="The sizes of an input that may have any; the first counts rows. Repeat it.",
)
@click.option(
    "--samples", type=FILE, help="Feed rows of this .npz, an array for each input. [default: random]"
)
@click.option("--p99", metavar="TIME", help="Suggest within this latency at p99: 500ms.")
@click.option(
    "--paging",
    "has_paging",
    is_flag=True,
    help="Also measure how copies of it page on an EMULATED EPC; as root, on a quiet machine.",
)
@click.option(
    "--copies",
    type=click.IntRange(2, COPIES_LIMIT),
    default=2,
    show_default=True,
    help="With --paging: how many share the EPC.",
)
@click.option("-o", "--output", type=FILE, help="The profile. [default: MODEL.profile.json, here]")
@click.option("--plot", type=FILE, help="Draw it as .svg or .png; needs the extra s3ml[plots].")
@json_option
def command(
    model: Path,
    *,
    max_batch: int,
    threads: str | None,
    duration: str,
    shapes: tuple[str, ...],
    samples: Path | None,
    p99: str | None,
    has_paging: bool,
    copies: int,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure what MODEL costs on this machine, and write its profile.

    MODEL is an .onnx or .tflite file, or a folder with one; or a profile (.json), to show or draw it again. A
    scikit-learn model is converted first (`s3ml model convert`). Memory, and latency against batch size and
    threads, each point in a process of its own, computed as the model server would, but outside a TEE: a
    TEE's own costs are in none of the figures. What --paging adds comes from an EMULATED EPC
    (`s3ml epc-emulate`), and is no figure of SGX hardware either.
    """
    is_profile = model.suffix == _PROFILE_SUFFIX and model.is_file()
    if plot is not None:
        check_plot(plot)
    if has_paging:
        _check_paging(model, is_profile=is_profile)
    if is_profile:
        profile, written = read_profile(model), output
    else:
        wishes = Wishes(
            source=model,
            max_batch=max_batch,
            threads=_parse_threads(threads),
            duration_s=parse_duration("--duration", duration),
            shapes=_parse_shapes(shapes),
            samples=samples,
            objective_s=None if p99 is None else parse_duration("--p99", p99),
        )
        profile = _measure(wishes, copies=copies if has_paging else None)
        written = output or Path(f"{model.absolute().stem}.profile.json")
    if written is not None:
        write_atomically(written, encode_profile(profile))
    if as_json:
        print_json(profile)
    else:
        show_profile(profile, stdout)
    if plot is not None:
        draw_profile(profile, plot)
    for path in (written, plot):
        if path is not None:
            click.echo(f"{path}: written", err=as_json)


def parse_duration(option: str, text: str) -> float:
    """Return seconds from ``2s``, ``500ms``, ``250us`` or ``2``.

    Raises:
        ConfigurationError: it has another form, or is not above 0 and at most an hour.
    """
    lowered = text.strip().lower()
    suffix, factor = next((suffix, factor) for suffix, factor in _UNITS if lowered.endswith(suffix))
    try:
        seconds = float(lowered.removesuffix(suffix)) * factor
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise ConfigurationError(
            f"{option}: expected a time such as 2s or 500ms, an hour at most, got {text[:40]!r}"
        )
    return seconds


def _parse_threads(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 5 for part in parts):  # noqa: PLR2004 - digits of a number of cores
        raise ConfigurationError(f"--threads: expected numbers such as 1,2, got {text[:40]!r}")
    return tuple(sorted({int(part) for part in parts}))


def _parse_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes = dict(map(parse_shape, texts))
    if len(shapes) < len(texts):
        raise ConfigurationError("--shape: expected each input once")
    return shapes


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=stderr, transient=True)


def _check_paging(model: Path, *, is_profile: bool) -> None:
    """Say before anything is measured that paging cannot be."""
    if is_profile:
        raise ConfigurationError(f"--paging: expected a model to measure, got the profile {model}")
    check_host(Host())


def _measure_paging(profile: Profile, wishes: Wishes, *, copies: int) -> Profile:
    stderr.print(EMULATED_LINE)
    with _progress() as progress:
        task = progress.add_task("filling an emulated EPC", total=None)

        def tell(step: PagingStep) -> None:
            words = f"headroom {step.headroom:.2f}"
            progress.update(task, description=words, completed=step.number - 1, total=step.total)

        paging = measure_paging(
            PagingWishes(
                source=wishes.source, copies=copies, duration_s=wishes.duration_s, samples=wishes.samples
            ),
            profile.model,
            node=EmulatedNode(name=f"profile-{os.getpid()}"),
            progress=tell,
        )
    return msgspec.structs.replace(profile, paging=paging)


def _measure(wishes: Wishes, *, copies: int | None) -> Profile:
    stderr.print(OUTSIDE_LINE)
    with _progress() as progress:
        task = progress.add_task("loading the model", total=None)

        def tell(step: Step) -> None:
            words = f"threads {step.threads}, batch {step.batch}"
            progress.update(task, description=words, completed=step.number - 1, total=step.total)

        profile = measure_profile(wishes, progress=tell, now=lambda: datetime.now(UTC))
    return profile if copies is None else _measure_paging(profile, wishes, copies=copies)
