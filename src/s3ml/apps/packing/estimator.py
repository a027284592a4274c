"""A scikit-learn model as its owner saved it: with skops, joblib or pickle.

A pickle is a program. Loading one runs whatever is in it, with the rights of whoever packs and with their
signing key in reach; so one is loaded only when its owner says that they made it. A skops file holds data;
it loads when skops trusts every type in it, or its owner does.
"""

import warnings
from pathlib import Path
from typing import Any

from s3ml.primitives.errors import ConfigurationError

PICKLES = frozenset({".joblib", ".pkl", ".pickle"})
SUFFIXES = PICKLES | {".skops"}
_TYPES_SHOWN = 5


def is_estimator(path: Path) -> bool:
    """Tell by its name whether a file holds a scikit-learn model."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def load_estimator(path: Path, *, trusts_source: bool) -> Any:
    """Load a fitted scikit-learn model.

    Args:
        path: Where it was saved.
        trusts_source: Whether code in a pickle may run, and any type in a skops file be made.

    Raises:
        ConfigurationError: a pickle that is not trusted, a skops file with types that are not, a file that is
            damaged or saved by another version of scikit-learn, or no model in it.
    """
    is_pickle = path.suffix.lower() in PICKLES
    if is_pickle and not trusts_source:
        raise ConfigurationError(
            f"{path}: a pickle runs the code in it, with your rights and your signing key in reach: say "
            "--trust-source if you made this file, or save the model with skops and pack that"
        )
    try:
        from sklearn.base import BaseEstimator  # noqa: PLC0415 - heavy, and in an extra
        from sklearn.exceptions import InconsistentVersionWarning  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(path) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", InconsistentVersionWarning)
        try:
            model = _load_pickle(path) if is_pickle else _load_skops(path, trusts_source=trusts_source)
        except InconsistentVersionWarning as error:
            raise ConfigurationError(
                f"{path}: was saved by scikit-learn {error.original_sklearn_version}, this is "
                f"{error.current_sklearn_version}: pack it with the version that made it"
            ) from error
    if not isinstance(model, BaseEstimator):
        raise ConfigurationError(f"{path}: expected a scikit-learn model, got {type(model).__name__}")
    return model


def missing_extra(path: Path) -> ConfigurationError:
    """Say which extra converts scikit-learn models."""
    return ConfigurationError(
        f"{path}: packing a scikit-learn model needs more packages: pip install 's3ml[convert]'"
    )


def _load_pickle(path: Path) -> Any:
    from joblib import load  # noqa: PLC0415

    try:
        return load(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Warning:
        raise
    except Exception as error:  # whatever the code in it raises
        raise ConfigurationError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error


def _load_skops(path: Path, *, trusts_source: bool) -> Any:
    try:
        import skops.io  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(path) from error
    try:
        untrusted = skops.io.get_untrusted_types(file=path)
        if trusts_source or not untrusted:
            return skops.io.load(path, trusted=untrusted)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Warning:
        raise
    except Exception as error:  # skops's own exceptions share no base class
        raise ConfigurationError(f"{path}: is no skops file that can be loaded: {error}") from error
    shown = ", ".join(untrusted[:_TYPES_SHOWN])
    raise ConfigurationError(
        f"{path}: expected only types that skops trusts, got {shown}: say --trust-source if you made it"
    )
