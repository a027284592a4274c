"""Add the vectors of listings to those of the bundle; run once from the repository's root for each version.

``python -m conformance.vectors.make_bundle``
"""

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "bundle.json"
DIGEST = "0" * 64
TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}


def listing(**fields: Any) -> dict[str, Any]:
    """A listing of one model of three bytes, with more or other fields."""
    name = "model.tflite" if fields.get("runtime") == "litert" else "model.onnx"
    files = [{"name": name, "size_bytes": 3, "sha256": DIGEST}]
    return {"version": 1, "runtime": "onnx", "files": files, **fields}


ACCEPTED = {
    "an ONNX model of which nothing is declared": listing(),
    "a LiteRT model": listing(runtime="litert"),
    "declared inputs and outputs": listing(
        inputs=[TENSOR, {"name": "text", "datatype": "BYTES", "shape": [-1]}],
        outputs=[{"name": "y", "datatype": "BF16", "shape": []}],
    ),
    "batching with its defaults": listing(batching={"max_size": 8}),
    "batching in full": listing(batching={"max_size": 1024, "max_delay_us": 1_000_000, "max_queue": 65_536}),
    "resources with their default": listing(resources={"memory_bytes": 1}),
    "resources in full": listing(resources={"memory_bytes": 1 << 50, "threads": 256}),
    "what is absent, said so": listing(batching=None, resources=None, inputs=[], outputs=[]),
}
REFUSED = {
    "an unknown runtime": listing(runtime="pickle"),
    "a LiteRT model under the name of an ONNX model": {**listing(), "runtime": "litert"},
    "an unknown field": listing(device="gpu"),
    "an input twice": listing(inputs=[TENSOR, TENSOR]),
    "an output twice": listing(outputs=[TENSOR, TENSOR]),
    "an unknown datatype": listing(inputs=[{**TENSOR, "datatype": "FP8"}]),
    "a size below -1": listing(inputs=[{**TENSOR, "shape": [-2]}]),
    "a size of 2^31": listing(inputs=[{**TENSOR, "shape": [1 << 31]}]),
    "17 dimensions": listing(inputs=[{**TENSOR, "shape": [1] * 17}]),
    "a tensor without a name": listing(inputs=[{**TENSOR, "name": ""}]),
    "65 inputs": listing(inputs=[{**TENSOR, "name": f"x{number}"} for number in range(65)]),
    "batches of none": listing(batching={"max_size": 0}),
    "batches of 1025": listing(batching={"max_size": 1025}),
    "a delay of more than a second": listing(batching={"max_size": 8, "max_delay_us": 1_000_001}),
    "a negative delay": listing(batching={"max_size": 8, "max_delay_us": -1}),
    "a delay with a fraction": listing(batching={"max_size": 8, "max_delay_us": 0.5}),
    "a queue for nobody": listing(batching={"max_size": 8, "max_queue": 0}),
    "an unknown field of batching": listing(batching={"max_size": 8, "preferred": [4]}),
    "no memory": listing(resources={"memory_bytes": 0}),
    "no thread": listing(resources={"memory_bytes": 1, "threads": 0}),
    "a text for a number": listing(resources={"memory_bytes": "1"}),
}

if __name__ == "__main__":
    vectors = json.loads(PATH.read_bytes())
    vectors["listings"] = {
        outcome: [{"name": name, "listing": json.dumps(document)} for name, document in documents.items()]
        for outcome, documents in (("accepted", ACCEPTED), ("refused", REFUSED))
    }
    PATH.write_text(json.dumps(vectors, indent=1) + "\n")
