"""The gradient that ONNX Runtime's training build makes of a model's head: an oracle that shares no code with onnxcam.

    python tools/training_oracle.py MODEL [--layer NAME] [--score NAME]

The model is split at the layer as `onnxcam export --split` does. The features run here, on a random image. The head's
gradient d score[class] / d layer is taken twice, by onnxcam and by onnxruntime-training's GradientGraphBuilder. Printed
is the largest difference, relative to the largest element.

onnxruntime-training has its own `onnxruntime` package, so it lives in an environment of its own (CONTRIBUTING.md):
`.venv-training`, or wherever ONNXCAM_TRAINING_PYTHON says its interpreter is. This file runs there, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

Array = npt.NDArray[Any]
INTERPRETER = "ONNXCAM_TRAINING_PYTHON"
DEFAULT = Path(__file__).resolve().parent.parent / ".venv-training" / "bin" / "python"
SEED, LOSS = "training/seed", "training/loss"
IR_VERSION = 10  # the newest that ONNX Runtime 1.19 reads


# -- here -----------------------------------------------------------------------------------------


def interpreter() -> Path | None:
    """Python of the environment that holds onnxruntime-training; None where there is none."""
    path = Path(os.environ.get(INTERPRETER, DEFAULT))
    return path if path.exists() else None


def layer_gradient(
    head: onnx.ModelProto, feeds: Mapping[str, Array], *, layer: str, score: str, seed: Array, python: Path
) -> Array:
    """d <seed, score> / d layer as onnxruntime-training computes it.

    Args:
        head: a model that gives `score`; `layer` is one of its inputs.
        feeds: all its inputs.
        seed: the cotangent, in the shape of the score.
        python: the interpreter to build and run it with.

    Raises:
        RuntimeError: with the last line of what went wrong there: an operator without a gradient builder, mostly.
    """
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(with_loss(head, score, seed), f"{folder}/head.onnx")
        np.savez(f"{folder}/feeds.npz", **{name: feeds[name] for name in feeds}, **{SEED: seed})
        command = [str(python), __file__, "--build", folder, "--layer", layer]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        found: Array = np.load(f"{folder}/gradient.npy")
    return found


def with_loss(head: onnx.ModelProto, score: str, seed: Array) -> onnx.ModelProto:
    """The head with the scalar that its gradient is taken of, every node with a name."""
    model = onnx.ModelProto()
    model.CopyFrom(head)
    model.ir_version = min(model.ir_version, IR_VERSION)
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info(SEED, TensorProto.FLOAT, seed.shape))
    graph.node.append(helper.make_node("Mul", [score, SEED], ["training/weighted"]))
    graph.node.append(helper.make_node("ReduceSum", ["training/weighted"], [LOSS], keepdims=0))
    graph.output.append(helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, []))
    for i, node in enumerate(graph.node):
        node.name = node.name or f"training/node_{i}"
    return model


def compare(model: Path, layer: str | None, score: str | None, python: Path) -> tuple[str, float]:
    """The layer, and the largest difference of both gradients there relative to the largest element of the oracle's."""
    from measuring import plain_session

    from onnxcam.explainer.rewritten import Rewritten
    from onnxcam.exporting import split

    subject = Rewritten(model, provider="cpu", threads=1, score=score)
    at = subject.target_layer(layer, "gradcam")
    head = subject.sessions.head(at)
    with tempfile.TemporaryDirectory() as folder:
        front, back = (plain_session(str(path)) for path in split(model, folder, layer=layer, score=score))
        shape = [size if isinstance(size, int) else 1 for size in front.get_inputs()[0].shape]
        image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        values = front.run(None, {front.get_inputs()[0].name: image})
        known = dict(zip([value.name for value in front.get_outputs()], values, strict=True))
        scores = known[subject.score.name]
        wanted = [value.name for value in back.get_inputs()]
        feeds = {name: known[name] for name in wanted if name in known}
        classes = {name: scores.reshape(len(scores), -1).argmax(1) for name in wanted if name not in known}
        (ours,) = back.run(None, feeds | classes)
    seed = np.zeros_like(scores)
    seed.reshape(len(seed), -1)[np.arange(len(seed)), scores.reshape(len(scores), -1).argmax(1)] = 1
    inputs = {name: known[name] for name in (head.layer, *head.extra)}
    proto = subject.model.embed(head.graph.proto)
    theirs = layer_gradient(proto, inputs, layer=head.layer, score=head.score, seed=seed, python=python)
    return at.name, float(np.abs(ours - theirs).max() / np.abs(theirs).max())


# -- there ----------------------------------------------------------------------------------------


def build(folder: Path, layer: str) -> None:
    """Build the gradient graph of `folder`/head.onnx, run it, and leave gradient.npy: in the training environment."""
    from onnxruntime.capi._pybind_state import GradientGraphBuilder

    path = folder / "head.onnx"
    builder = GradientGraphBuilder(path.read_bytes(), {LOSS}, {layer}, LOSS)
    builder.build()
    model = onnx.load_from_string(builder.get_model())
    model.graph.output.append(helper.make_tensor_value_info(f"{layer}_grad", TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    with np.load(folder / "feeds.npz") as feeds:
        (found,) = session.run([f"{layer}_grad"], {name: feeds[name] for name in feeds.files if name in names})
    np.save(folder / "gradient.npy", found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or build for the process that compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--layer")
    parser.add_argument("--score")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.build:
        build(options.build, options.layer)
        return
    python = interpreter()
    if python is None:
        sys.exit(f"no training environment: make .venv-training (CONTRIBUTING.md), or set {INTERPRETER}")
    layer, off = compare(options.model, options.layer, options.score, python)
    print(f"{layer}: {off:.1e}")


if __name__ == "__main__":
    main()
