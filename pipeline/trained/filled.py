"""An ONNX model whose channels are filled up with zeros to whole blocks: the same logits, sooner.

ONNX Runtime convolves blocks of 16 channels (with AVX-512; of 8 with AVX2). Where a tensor's channels are no multiple,
it fills each convolution up by itself, and orders the channels anew before and after. Filled up once and for all, they
stay in blocks from the first convolution to the last. The kernels of an added channel are zeros, and so is what later
layers take of it: whatever finite number it holds, the logits are the same to rounding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.errors import StageError

BLOCK = 16
ELEMENTWISE = {"Relu", "LeakyRelu", "Elu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Identity"}
POOLING = {"MaxPool", "AveragePool", "GlobalAveragePool"}
PASSING = ELEMENTWISE | POOLING | {"Flatten"}  # give as many channels as they take
PAIRING = {"Add", "Mul"}
NEUTRAL = (0.0, 0.0, 0.0, 1.0)  # an added channel's scale, bias, mean and variance in a BatchNormalization


@dataclass(frozen=True)
class Width:
    """The channels of a tensor, before and after."""

    before: int
    after: int


def fill(model: Any) -> Any:
    """A copy of a model of `onnx.convert` with channels in whole blocks.

    Raises StageError where there is nothing to fill, or an operation on filled channels that is not known here.
    """
    import onnx

    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    graph = filled.graph
    filling = Filling(graph)
    for node in graph.node:
        filling.visit(node)
    if not filling.widths:
        raise StageError(f"nothing to fill: every convolution here has a multiple of {BLOCK} channels already")
    if graph.output[0].name in filling.widths:
        raise StageError("cannot be filled: its logits are a convolution's channels")
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.value_info[:]  # the latter are shapes, which have changed
    graph.initializer.extend(kept)
    return filled


class Filling:
    """Goes through a graph in its order, and knows which tensors have more channels than before."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.widths: dict[str, Width] = {}  # by tensor, where before and after differ

    def visit(self, node: Any) -> None:
        if node.op_type == "Conv":
            width = self.convolution(node)
        elif not any(name in self.widths for name in node.input):
            return
        elif node.op_type in PASSING or (node.op_type in {"ReduceMean", "Pad"} and self.is_spatial(node)):
            width = self.widths.get(node.input[0])
        elif node.op_type in PAIRING and len({self.widths.get(name) for name in node.input}) == 1:
            width = self.widths[node.input[0]]
        elif node.op_type == "BatchNormalization":
            width = self.normalisation(node)
        elif node.op_type == "Reshape":
            width = self.flattening(node)
        elif node.op_type == "Gemm":
            self.classifier(node)
            return
        else:
            raise self.unknown(node)
        if width is not None and width.before != width.after:
            self.widths[node.output[0]] = width

    def convolution(self, node: Any) -> Width | None:
        out, incoming = self.constant(node, 1).shape[:2]  # of kernels (out, in / groups, height, width)
        group = next((attribute for attribute in node.attribute if attribute.name == "group"), None)
        before = self.widths.get(node.input[0])
        if group is None or group.i == 1:
            width, incoming = Width(out, -(-out // BLOCK) * BLOCK), before.after if before else incoming
        elif before is None:
            return None  # channels in groups stay apart
        elif out == group.i and incoming == 1:  # depthwise
            width, group.i = before, before.after
        else:
            raise self.unknown(node)
        self.put(node, 1, (width.after, incoming))
        if len(node.input) > 2:
            self.put(node, 2, (width.after,))
        return width

    def normalisation(self, node: Any) -> Width:
        width, features = self.widths[node.input[0]], len(self.constant(node, 1))
        pixels = features // width.before  # more than 1 after Flatten
        for place, neutral in enumerate(NEUTRAL, start=1):
            self.put(node, place, (width.after * pixels,), neutral)
        return width

    def flattening(self, node: Any) -> Width:
        """(N, C, ...) -> (N, C * pixels): the added channels come last."""
        width, shape = self.widths[node.input[0]], self.constant(node, 1)
        if len(shape) != 2 or shape[1] <= 0 or shape[1] % width.before:
            raise self.unknown(node)
        pixels = int(shape[1]) // width.before
        self.replace(node, 1, np.array([shape[0], pixels * width.after], np.int64))
        return Width(width.before * pixels, width.after * pixels)

    def classifier(self, node: Any) -> None:
        """What multiplies added features is zero; the classes stay as many as they were."""
        width, weight = self.widths.get(node.input[0]), self.constant(node, 1)
        across = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if width is None:
            raise self.unknown(node)
        classes, features = weight.shape if across else weight.shape[::-1]
        pixels = features // width.before  # more than 1 after Flatten
        self.put(node, 1, (classes, width.after * pixels) if across else (width.after * pixels, classes))

    def is_spatial(self, node: Any) -> bool:
        """Whether a mean is over, or a margin around, height and width alone."""
        constant = self.constant(node, 1)
        if node.op_type == "Pad":
            return not constant.reshape(2, -1)[:, :2].any()
        return sorted(int(axis) % 4 for axis in constant) == [2, 3]

    def constant(self, node: Any, place: int) -> np.ndarray:
        """An input of a node; raises StageError where there is none, or where the graph computes it."""
        found = self.constants.get(node.input[place]) if place < len(node.input) else None
        if found is None:
            raise self.unknown(node)
        return found

    def put(self, node: Any, place: int, shape: tuple[int, ...], value: float = 0.0) -> None:
        """Fill a constant up to `shape`, of which it keeps the axes that are not named."""
        constant = self.constant(node, place)
        more = [(0, after - before) for before, after in zip(constant.shape, shape, strict=False)]
        more += [(0, 0)] * (constant.ndim - len(more))
        self.replace(node, place, np.pad(constant, more, constant_values=value))

    def replace(self, node: Any, place: int, constant: np.ndarray) -> None:
        """Give a node a constant of its own: others may share the one that it had."""
        from onnx import numpy_helper

        name = f"{node.output[0]}.filled.{place}"
        self.constants[name] = constant
        self.graph.initializer.append(numpy_helper.from_array(constant, name))
        node.input[place] = name

    def unknown(self, node: Any) -> StageError:
        return StageError(f"cannot be filled: what {node.op_type} makes of added channels is not known")
