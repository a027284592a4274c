"""What a balancer knows of a model beforehand: its compute time, its paging curve, and what a page costs.

It comes from the model's profile, or from nothing: then what replicas show takes its place. It is advice;
nothing but where requests go depends on it.
"""

from typing import Annotated, Self

import msgspec

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import DAY_S, MIB
from s3ml.scheduling.paging import Curve, Sample

PAGE_COST_S = 22e-6
"""Out and in of one page: about 40,000 cycles each, 11 µs and about the same again at 3 GHz; an emulated EPC
costs 11 to 35 µs. The least surprising value where no profile measured it."""
MODEL_LIMIT_BYTES = MIB

Seconds = Annotated[float, msgspec.Meta(gt=0, le=DAY_S)]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's costs.

    Args:
        compute_s: A request alone on a replica with all memory that it wants; None if that was not measured:
            the fastest replicas show it.
        curve: Pages per request against headroom; None if that was not measured: only what is observed
        counts.
        hot_set_bytes: What one request touches, as whole pages; None if that was not measured.
        page_cost_s: How much longer a request takes for each page that it brings back.
        parallel: How many requests a replica computes at once.
        paging_limit_per_s: Above how many pages brought back in a second the paper's policy leaves a node
            out; None if that was not learned.
    """

    compute_s: Seconds | None = None
    curve: Curve | None = None
    hot_set_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)] | None = None
    page_cost_s: Seconds = PAGE_COST_S
    parallel: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    paging_limit_per_s: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None

    def corrected(self, observed: Sample) -> Self:
        """Return the model with its curve pulled towards an observation; itself where it has no curve."""
        if self.curve is None:
            return self
        return msgspec.structs.replace(self, curve=self.curve.corrected(observed))


def encode_model(model: Model) -> bytes:
    """Return the model as JSON, laid out for people."""
    return msgspec.json.format(msgspec.json.encode(model), indent=1) + b"\n"


def parse_model(data: bytes) -> Model:
    """Parse what `encode_model` made, or somebody wrote.

    Args:
        data: At most 1 MiB.

    Raises:
        ConfigurationError: it is too large, no JSON, or a field is unknown or out of its range.
    """
    if len(data) > MODEL_LIMIT_BYTES:
        raise ConfigurationError(f"model costs: expected at most {MODEL_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=Model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"model costs: {error}") from error
