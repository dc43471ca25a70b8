"""An ONNX model in 8-bit integers: static quantisation (Jacob et al. 2018, arXiv:1712.05877), by ONNX Runtime.

Activations are uint8, in the range that they have on calibration images; weights are int8, with a scale for each output
channel. What reads the image stays in float32: of three channels integers take longer. The answers are no longer quite
the network's own.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

IMAGES = 512  # to calibrate on, at most: training images


def quantise(model: Any, batches: Iterable[Tensor]) -> Any:
    """A model of `onnx.convert` in 8-bit integers; `batches` are prepared images to calibrate on, no test images."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Calibration(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Tensor] = iter(batches)

        def get_next(self) -> Any:
            batch = next(self.left, None)
            return None if batch is None else {"images": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, whole, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "whole", "quantised"))
        onnx.save(model, plain)  # of a model in memory the next line moves the weights out
        quant_pre_process(plain, whole, skip_symbolic_shape=True)
        quantization.quantize_static(
            whole,
            quantised,
            Calibration(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[node.name for node in onnx.load(whole).graph.node if "images" in node.input],
        )
        return onnx.load(quantised)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings about what stays a tensor with one scale to the quantiser."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
