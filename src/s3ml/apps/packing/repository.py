"""A folder of models as Triton and MLServer lay it out: ``REPOSITORY/MODEL/VERSION/model.onnx``.

Beside its versions a model may have settings and samples, and each version its own, which come first. Other
files beside versions are nobody's business here: labels, notes.
"""

from dataclasses import dataclass
from pathlib import Path

from s3ml.apps.packing.estimator import is_estimator
from s3ml.apps.packing.settings import SETTINGS_NAMES, FoundSettings, find_settings, read_settings
from s3ml.bundle.contents import MODEL_NAMES
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name, check_version

SAMPLES_NAMES = ("samples.npy", "samples.csv")
# What may lie in a model's folder without being part of the model.
LEAVE_OUT = frozenset({*SETTINGS_NAMES, *SAMPLES_NAMES})


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """One version of a model before it is packed.

    Args:
        model: Its name.
        version: A positive number.
        source: The file or folder that holds it.
        settings: What stands beside it.
        samples: For a scikit-learn model, where its samples are, if anywhere.
    """

    model: str
    version: str
    source: Path
    settings: FoundSettings
    samples: Path | None = None


def is_repository(path: Path) -> bool:
    """Tell whether a folder holds folders of models rather than a model."""
    if not path.is_dir():
        return False
    return _model_within(path) is None and any(_folders(path))


def find_models(repository: Path) -> tuple[FoundModel, ...]:
    """Find every version of every model, by name and number.

    Raises:
        ConfigurationError: there is none, a folder has a name that cannot be one, a version holds no model,
            or settings cannot be read.
    """
    found = [
        _found(folder, version)
        for folder in _folders(repository)
        for version in sorted(_versions(folder), key=lambda path: int(path.name))
    ]
    if not found:
        raise ConfigurationError(
            f"{repository}: expected {' or '.join(MODEL_NAMES.values())} in it, or a repository of the form "
            "MODEL/VERSION/model.onnx"
        )
    return tuple(found)


def find_model(source: Path, *, model: str, version: str, settings: Path | None = None) -> FoundModel:
    """Find what belongs to one model: a file, or a folder that holds it.

    Args:
        source: Where it is.
        model: Its name.
        version: Its version.
        settings: Where its settings are; beside it unless given: in the folder, or under the file's name with
            the ending ``.toml``.

    Raises:
        ConfigurationError: settings cannot be read.
    """
    within = _model_within(source) if source.is_dir() else source
    folder = source if source.is_dir() else source.parent
    beside = source / SETTINGS_NAMES[0] if source.is_dir() else source.with_suffix(".toml")
    if settings is not None:
        said = FoundSettings(declaration=read_settings(settings), path=settings)
    elif source.is_dir():
        said = find_settings(source)
    elif beside.is_file():
        said = FoundSettings(declaration=read_settings(beside), path=beside)
    else:
        said = find_settings()
    is_saved = within is not None and is_estimator(within)
    return FoundModel(
        model=model,
        version=version,
        source=within if is_saved and within is not None else source,
        settings=said,
        samples=_samples(folder) if is_saved else None,
    )


def _found(folder: Path, version: Path) -> FoundModel:
    within = _model_within(version)
    if within is None:
        raise ConfigurationError(
            f"{version}: expected {' or '.join(MODEL_NAMES.values())}, or one scikit-learn model, in it"
        )
    is_saved = is_estimator(within)
    return FoundModel(
        model=check_name(folder.name, what=f"model {folder}"),
        version=check_version(version.name, what=f"version {version}"),
        source=within if is_saved else version,
        settings=find_settings(version, folder),
        samples=_samples(version, folder) if is_saved else None,
    )


def _model_within(folder: Path) -> Path | None:
    """Return the file that makes a folder the folder of a model."""
    for name in MODEL_NAMES.values():
        if (folder / name).exists():
            return folder / name
    saved = [path for path in sorted(folder.iterdir()) if is_estimator(path)]
    return saved[0] if len(saved) == 1 else None


def _folders(path: Path) -> list[Path]:
    return [one for one in sorted(path.iterdir()) if one.is_dir() and not one.name.startswith(".")]


def _versions(folder: Path) -> list[Path]:
    return [one for one in _folders(folder) if one.name.isdecimal()]


def _samples(*folders: Path) -> Path | None:
    paths = (folder / name for folder in folders for name in SAMPLES_NAMES)
    return next((path for path in paths if path.is_file()), None)
