"""`versus export`: a trained model as ONNX."""

import argparse
from pathlib import Path

SUMMARY = "Write a trained model as ONNX and verify it"
EXAMPLE = "versus export cnn-2 --onnx cnn.onnx"
INTERRUPTED = "a file that is not verified is not kept, an older one stays"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="cnn-2: that replicate; cnn: its best one, by validation")
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="where to write it")
    faster = parser.add_mutually_exclusive_group()
    faster.add_argument("--fill", action="store_true", help="channels in multiples of 16: small networks run sooner")
    faster.add_argument("--int8", action="store_true", help="8-bit integers: large ones do; answers change a little")


def run(given: argparse.Namespace) -> None:
    from pipeline.trained.export import export

    export(given.model, given.onnx, "fill" if given.fill else "int8" if given.int8 else "none")
