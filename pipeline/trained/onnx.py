"""A network as an ONNX model, run by ONNX Runtime on the CPU, and whether both agree."""

import sys
import warnings
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.images.form import Format
from pipeline.params import read

BATCH = 128


@dataclass(frozen=True)
class Agreement:
    images: int
    difference: float  # largest, of two logits
    largest: float  # logit
    differing: int  # images whose likeliest class differs


def convert(network: nn.Module, form: Format) -> Any:
    """The network as an ONNX model of a free batch size, without a trace of where its code lies.

    Raises StageError where the exporter does not know one of its operations.
    """
    network = deepcopy(network).to(memory_format=torch.contiguous_format)  # of another order, pooling takes ten nodes
    example = torch.zeros(2, form.channels, form.size, form.size)
    with warnings.catch_warnings(), torch.no_grad(), _free_length(network):
        warnings.simplefilter("ignore")  # of the exporter's own parts
        try:
            program = torch.onnx.export(
                network,
                (example,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:150]
            raise StageError(f"{type(network).__name__}: this network cannot be written as ONNX ({reason})") from None
    assert program is not None
    model = program.model_proto
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            node.ClearField("metadata_props")  # stack traces
    return model


def _free_length(network: nn.Module) -> Any:
    """Let `len(tensor)` in a network's forward be a free batch size: torch.export takes Python's own for a constant."""
    module = sys.modules[type(network).__module__]
    return mock.patch.object(module, "len", lambda x: x.shape[0] if isinstance(x, Tensor) else len(x), create=True)


def session(network: nn.Module, form: Format) -> Any:
    """The network in ONNX Runtime; raises StageError where it, or the packages for it, are not to be had."""
    read.require_onnx("params.yaml: evaluate.onnx: true")
    return runtime(convert(network, form).SerializeToString())


def runtime(content: bytes, threads: int | None = None) -> Any:
    """A serialised model in ONNX Runtime on the CPU, with as many threads as PyTorch takes, or `threads`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(model: Any, images: Tensor) -> np.ndarray:
    """Logits (N, K) of prepared images, of a network or of a session of ONNX Runtime."""
    if isinstance(model, nn.Module):
        with torch.inference_mode():
            return model(images).numpy()
    return model.run(["logits"], {"images": images.numpy()})[0]


def compare(session: Any, network: nn.Module, batches: Iterable[Tensor]) -> Agreement:
    """Both on all batches, and on the first image of each alone."""
    images = differing = 0
    difference = largest = 0.0
    for batch in batches:
        wanted = run(network, batch)  # (N, K)
        got = run(session, batch)
        alone = run(session, batch[:1])
        images += len(batch)
        differing += int((got.argmax(1) != wanted.argmax(1)).sum())
        # a maximum of numpy's keeps nan, Python's may drop it
        difference = float(np.max([difference, np.abs(got - wanted).max(), np.abs(alone - wanted[:1]).max()]))
        largest = max(largest, float(np.abs(wanted).max()))
    return Agreement(images, difference, largest, differing)
