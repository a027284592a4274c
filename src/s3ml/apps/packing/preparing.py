"""From what an owner has to what is encrypted: settings joined, converted where needed, tried.

What is said on the command line comes before the settings beside the model, and those before what a profile
suggests.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from s3ml.apps.packing.conversion import TOLERANCE, Conversion, convert
from s3ml.apps.packing.estimator import is_estimator, load_estimator
from s3ml.apps.packing.repository import LEAVE_OUT, FoundModel
from s3ml.apps.packing.tried import try_model
from s3ml.bundle import Batching, Declaration, ListedFile, inspect_source
from s3ml.bundle.profile import Profile, check_profile_of
from s3ml.primitives.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingOptions:
    """What an owner says for one packing, besides the model.

    Args:
        max_batch: The most rows computed at once.
        max_delay_us: How long a request waits for others, in microseconds.
        profile: Suggests batching and resources.
        samples: Rows for the comparison of a converted model; those beside the model unless given.
        tolerance: The largest difference of a converted model that is accepted.
        trusts_source: Whether code in a pickle may run here, and any type in a skops file be made.
        is_tried: Whether the model is opened before it is packed.
    """

    max_batch: int | None = None
    max_delay_us: int | None = None
    profile: Profile | None = None
    samples: Path | None = None
    tolerance: float = TOLERANCE
    trusts_source: bool = False
    is_tried: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModel:
    """A model that is ready to be encrypted.

    Args:
        source: The file or folder to pack.
        declaration: What the bundle will say of it.
        leave_out: Names of files of the folder that are not the model's.
        conversion: How it was converted, where it was.
    """

    source: Path
    declaration: Declaration
    leave_out: frozenset[str]
    conversion: Conversion | None = None


@contextmanager
def prepared(
    found: FoundModel, options: PackingOptions, *, read_samples: Callable[[Path], Any]
) -> Iterator[PreparedModel]:
    """Prepare a model; a converted one lies in a folder of its own meanwhile, which is removed.

    Args:
        found: The model and what stands beside it.
        options: The owner's.
        read_samples: Reads rows of numbers from a file.

    Raises:
        ConfigurationError: settings contradict each other or the model, the model cannot be converted or
            served, or the profile is another model's.
    """
    declaration = found.settings.declaration
    if not is_estimator(found.source):
        with_profile = apply_profile(declaration, options.profile, found.source)
        yield _tried(found.source, with_profile, options, conversion=None)
        return
    conversion = _converted(found, options, read_samples)
    with tempfile.TemporaryDirectory(prefix="s3ml-packing-") as folder:
        source = Path(folder) / "model.onnx"
        source.write_bytes(conversion.onnx)
        with_profile = apply_profile(declaration, options.profile, source)
        yield _tried(source, with_profile, options, conversion=conversion)


def apply_profile(declaration: Declaration, profile: Profile | None, source: Path) -> Declaration:
    """Take from a profile what the settings leave open.

    Raises:
        ConfigurationError: the profile was measured with other files.
    """
    if profile is None:
        return declaration
    files = inspect_source(source, leave_out=LEAVE_OUT).files
    listed = [
        ListedFile(name=one.name, size_bytes=one.size_bytes, sha256=one.sha256(lambda _bytes: None))
        for one in files
    ]
    check_profile_of(profile, listed)
    return msgspec.structs.replace(
        declaration,
        batching=declaration.batching or profile.suggestion.batching,
        resources=declaration.resources or profile.suggestion.resources,
    )


def apply_options(declaration: Declaration, options: PackingOptions) -> Declaration:
    """Put what was said on the command line over the settings.

    Raises:
        ConfigurationError: a delay without batches, or a number out of its range.
    """
    if options.max_batch is None and options.max_delay_us is None:
        return declaration
    stated = {} if declaration.batching is None else msgspec.structs.asdict(declaration.batching)
    if options.max_batch is not None:
        stated["max_size"] = options.max_batch
    if options.max_delay_us is not None:
        stated["max_delay_us"] = options.max_delay_us
    if "max_size" not in stated:
        raise ConfigurationError("--max-delay-us: expected --max-batch with it, or batching in the settings")
    try:
        batching = msgspec.convert(stated, Batching)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"batching: {error}") from error
    return msgspec.structs.replace(declaration, batching=batching)


def _tried(
    source: Path, declaration: Declaration, options: PackingOptions, *, conversion: Conversion | None
) -> PreparedModel:
    declared = apply_options(declaration, options)
    if options.is_tried:
        declared = try_model(source, declared, leave_out=LEAVE_OUT).declaration
    return PreparedModel(source=source, declaration=declared, leave_out=LEAVE_OUT, conversion=conversion)


def _converted(found: FoundModel, options: PackingOptions, read_samples: Callable[[Path], Any]) -> Conversion:
    samples = options.samples or found.samples
    if samples is None:
        raise ConfigurationError(
            f"{found.source}: a scikit-learn model is converted, and compared on samples: give --samples "
            "FILE.npy or FILE.csv, or put samples.npy or samples.csv beside it"
        )
    model = load_estimator(found.source, trusts_source=options.trusts_source)
    rows = read_samples(samples)
    return convert(model, rows, path=found.source, tolerance=options.tolerance)
