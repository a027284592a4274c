"""Full-size vision models: the runtime's outputs are a plain session's, and those of the other runtime."""

from typing import Any

import numpy as np
import pytest

from s3ml.bundle import Batching, Declaration
from tests.modelserver.models.conftest import OpenPacked, assert_same_bits, plain
from tests.modelserver.models.vision import images, litert_twin, topology

BATCHES = Declaration(batching=Batching(max_size=4))
# Of a probability among a thousand, of which the largest here is about 0.5.
BATCHED, ACROSS_RUNTIMES = 1e-5, 1e-5


@pytest.mark.parametrize(
    "name", ["resnet50", "densenet121", "inception_v1", "inception_v2", "shufflenet", "squeezenet"]
)
def test_outputs_are_a_plain_sessions_to_the_bit(name: str, open_packed: OpenPacked) -> None:
    model = topology(name).SerializeToString()
    runtime = open_packed(model)
    inputs = {runtime.inputs[0].name: images(1)}
    outputs = runtime.run(inputs, [one.name for one in runtime.outputs])

    assert_same_bits(outputs, plain(model, inputs))
    assert np.isfinite(outputs[0]).all()
    assert np.ptp(outputs[0]) > 0


@pytest.fixture(scope="module")
def squeezenet() -> Any:
    return topology("squeezenet", has_rows=True)


class TestBatches:
    """Rows that are computed together come out as alone, within a tolerance."""

    @pytest.mark.parametrize("runtime", ["onnx", "litert"])
    def test_rows_come_out_as_alone(self, squeezenet: Any, runtime: str, open_packed: OpenPacked) -> None:
        is_onnx = runtime == "onnx"
        opened = open_packed(squeezenet.SerializeToString() if is_onnx else litert_twin(squeezenet), BATCHES)
        rows = images(4) if is_onnx else images(4).transpose(0, 2, 3, 1).copy()
        (spec,), names = opened.inputs, [opened.outputs[0].name]
        together = opened.run({spec.name: rows}, names)[0]
        alone = np.concatenate([opened.run({spec.name: rows[i : i + 1]}, names)[0] for i in range(4)])

        assert np.abs(together - alone).max() < BATCHED


class TestAcrossRuntimes:
    """The same weights say the same in either runtime, within a tolerance."""

    def test_squeezenet(self, squeezenet: Any, open_packed: OpenPacked) -> None:
        onnx = open_packed(squeezenet.SerializeToString())
        litert = open_packed(litert_twin(squeezenet))
        rows = images(2)
        first = onnx.run({onnx.inputs[0].name: rows}, [onnx.outputs[0].name])[0].reshape(2, 1000)
        channels_last = rows.transpose(0, 2, 3, 1).copy()
        second = litert.run({litert.inputs[0].name: channels_last}, [litert.outputs[0].name])[0].reshape(
            2, 1000
        )

        assert np.abs(first - second).max() < ACROSS_RUNTIMES
        assert (first.argmax(axis=1) == second.argmax(axis=1)).all()
