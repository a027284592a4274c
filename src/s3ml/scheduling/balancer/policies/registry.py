"""The policies by the words that people choose them by."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.policies.paper import DEFAULT_LIMIT_PER_S, Paper
from s3ml.scheduling.balancer.policies.predicted import Predicted
from s3ml.scheduling.balancer.policies.prequal import Prequal
from s3ml.scheduling.balancer.policies.requests import LeastRequest, PowerOfTwo
from s3ml.scheduling.balancer.policies.turns import RoundRobin, Uniform
from s3ml.scheduling.balancer.view import Policy
from s3ml.scheduling.model import Model


def _paper(model: Model) -> Policy:
    limit = model.paging_limit_per_s
    return Paper(limit_per_s=DEFAULT_LIMIT_PER_S if limit is None else limit)


POLICIES: Mapping[str, Callable[[Model], Policy]] = MappingProxyType(
    {
        "round-robin": lambda _: RoundRobin(),
        "random": lambda _: Uniform(),
        "least-request": lambda _: LeastRequest(),
        "power-of-two": lambda _: PowerOfTwo(),
        "prequal": lambda _: Prequal(),
        "s3ml-paper": _paper,
        "s3ml": lambda model: Predicted(model=model),
    }
)
"""Each makes its policy from a model's costs; those that need none ignore them."""


def policy_named(name: str, model: Model | None = None) -> Policy:
    """Return a policy by its name.

    Args:
        name: One of `POLICIES`.
        model: The model's costs; None if nothing was measured.

    Raises:
        ConfigurationError: there is no policy of that name.
    """
    make = POLICIES.get(name)
    if make is None:
        raise ConfigurationError(f"policy: expected one of {', '.join(POLICIES)}, got {name!r}")
    return make(Model() if model is None else model)
