"""The demonstration's classifier tells held-out cases apart from within a bundle as well as before."""

import numpy as np
import pytest

from s3ml.apps.demo.tumours import Tumours, train
from s3ml.bundle import Batching, Declaration
from tests.modelserver.models.conftest import OpenPacked, assert_same_bits, plain


@pytest.fixture(scope="module")
def tumours() -> Tumours:
    return train()


class TestTumours:
    def test_outputs_are_a_plain_sessions_to_the_bit(self, tumours: Tumours, open_packed: OpenPacked) -> None:
        runtime = open_packed(tumours.onnx, Declaration(batching=Batching(max_size=64)))

        for row in tumours.rows[:20]:
            inputs = {"x": row[np.newaxis]}
            assert_same_bits(runtime.run(inputs, ["label", "probabilities"]), plain(tumours.onnx, inputs))

    def test_a_batch_is_as_right_as_it_was_trained(self, tumours: Tumours, open_packed: OpenPacked) -> None:
        labels, probabilities = open_packed(tumours.onnx).run({"x": tumours.rows}, ["label", "probabilities"])

        assert float((labels == tumours.labels).mean()) == pytest.approx(tumours.accuracy)
        assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-5
