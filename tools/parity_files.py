"""One exported network of tools/parity.py: how onnxcam and onnx-ad fare with the file."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ad
import torch
from measuring import medians, plain_session
from parity_nets import Net, pictures
from parity_truth import Truth, both_passes

import onnxcam
from onnxcam.explainer.grids import to_grid

EXPORTS = {"ts": ("ts", False), "dynamo": ("dynamo", False), "ts free": ("ts", True), "dynamo free": ("dynamo", True)}
TS_OPSET = 17
LAYERS = 3
ROUNDS = 15  # that are timed
SLACK = 1e-3  # distance of the scores at which ONNX Runtime computes something else than torch
Facts = dict[str, Any]


def export(model: torch.nn.Module, net: Net, path: Path, kind: str) -> None:
    """The network as a file of one of the `EXPORTS`, its input `image`, its output `scores`."""
    exporter, free = EXPORTS[kind]
    x = (pictures(3 if free else 1, net.shape, seed=3),)
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["scores"]}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "ts":
            axes = {"image": {0: "batch"}, "scores": {0: "batch"}} if free else None
            torch.onnx.export(
                model, x, path, dynamo=False, opset_version=net.opset or TS_OPSET, dynamic_axes=axes, **names
            )
        else:
            shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if free else None
            options = {"opset_version": net.opset, "dynamic_shapes": shapes, "external_data": False, "verbose": False}
            torch.onnx.export(model, x, path, dynamo=True, **options, **names)


class File:
    """An exported network, and the images of its truth on their way through it."""

    def __init__(self, path: Path, net: torch.nn.Module, truth: Truth, free: bool) -> None:
        self.path, self.net, self.truth = path, net, truth
        self.batches = [slice(0, 2)] if free else [slice(0, 1), slice(1, 2)]

    def run(self, session: Any, names: Sequence[str], seed: str = "") -> list[Any]:
        """Outputs of the file, or of a model made of it, for both images; `seed` names the input for the cotangent."""
        parts = [session.run(names, self.feed(rows, seed)) for rows in self.batches]
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def feed(self, rows: slice, seed: str = "") -> dict[str, Any]:
        """Some of the images, and the cotangent of their scores where a seed is asked for."""
        chosen = np.eye(self.truth.scores.value.shape[1], dtype=np.float32)[self.truth.target[rows]]
        return {"image": self.truth.x[rows]} | ({seed: chosen} if seed else {})

    def judged(self) -> Facts:
        """How the file fares with onnxcam and with the peer."""
        try:
            forward = plain_session(str(self.path))
            scores = self.truth.scores.off(self.run(forward, ["scores"])[0])
        except Exception as error:  # noqa: BLE001  (ONNX Runtime's errors have no common parent)
            return {"state": "runtime differs", "why": first_line(error)}
        facts = self.ours(forward)
        if facts["state"] == "wrong" and scores > SLACK:
            facts |= {"state": "runtime differs", "why": f"the scores are {scores:.0e} from torch's; {facts['why']}"}
        return facts | {"onnx_ad": self.peer()}

    def ours(self, forward: Any) -> Facts:
        """State, errors and costs with onnxcam."""
        try:
            start = time.thread_time()
            whole = onnxcam.differentiate(self.path, of="scores", wrt="image")
            built = time.thread_time() - start
            backward, gradient = plain_session(whole.model.SerializeToString()), whole.gradients["image"]
            (found,) = self.run(backward, [gradient], whole.seed)
            checks = {"image": self.truth.image.check(found), **self.inside()}
        except onnxcam.OnnxCamError as error:
            return {"state": "refused", "why": first_line(error)}
        bad = [f"{what} {off:.0e}, bound {bound:.0e}" for what, (off, bound) in checks.items() if not off <= bound]
        nodes = len(onnx.load(self.path, load_external_data=False).graph.node)
        plain, seeded = self.feed(slice(0, 1), ""), self.feed(slice(0, 1), whole.seed)
        runs = {
            "forward": lambda: forward.run(["scores"], plain),
            "gradient": lambda: backward.run(["scores", gradient], seeded),
            "torch": both_passes(self.net, self.truth),
        }
        taken = medians(runs, ROUNDS, time.thread_time)
        return {
            "state": "wrong" if bad else "right",
            "why": "; ".join(bad),
            "errors": {what: off for what, (off, _) in checks.items()},
            "nodes": nodes,
            "added": len(whole.model.graph.node) - nodes,
            "build_s": built,
            **{f"{name}_ms": 1e3 * seconds for name, seconds in taken.items()},
        }

    def inside(self) -> dict[str, tuple[float, float]]:
        """(error, bound) at layers that onnxcam lists and torch computes too, and of the Grad-CAM map of the first."""
        layers = onnxcam.list_layers(self.path, score="scores")
        spread = layers[:: max(1, len(layers) // LAYERS)]
        names = [layer.name for layer in spread]
        if not names:
            return {}
        split = onnxcam.differentiate(self.path, of="scores", wrt=names)
        outputs = {value.name for value in split.model.graph.output}
        split.model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
        wanted = [*names, *(split.gradients[name] for name in names)]
        found = self.run(plain_session(split.model.SerializeToString()), wanted, split.seed)
        checks: dict[str, tuple[float, float]] = {}
        for layer, activation, gradient in zip(spread, found, found[len(names) :], strict=False):
            if (known := self.truth.at(activation)) is None:
                continue
            checks[f"layer {layer.name}"] = known.gradient.check(gradient)
            if "map" not in checks:
                wanted_map = known.grad_cam(lambda value, layout=layer.layout: to_grid(value, layout))
                checks["map"] = wanted_map.check(self.map(layer.name))
        return checks

    def map(self, layer: str) -> Any:
        """Grad-CAM maps of both images as a user gets them."""
        explainer = onnxcam.Explainer(self.path, score="scores")
        pairs = zip(self.truth.x, self.truth.target, strict=True)
        return np.stack([explainer(x[None], int(target), layer=layer).map for x, target in pairs])

    def peer(self) -> str:
        """What onnx-ad makes of the gradient at the image: right, wrong, or why not."""
        try:
            model = onnx_ad.reverse(onnx.load(self.path), inputs=["image"], outputs=["scores"], layout="onnx")
            session = plain_session(model.SerializeToString())
            seed, gradient = session.get_inputs()[-1].name, session.get_outputs()[-1].name
            feeds = [self.feed(rows, seed) for rows in self.batches]
            parts = [session.run([gradient], feed | {seed: feed[seed][..., None]})[0][..., 0] for feed in feeds]
        except Exception as error:  # noqa: BLE001  (it raises many kinds)
            return f"refused: {first_line(error)}"
        off, bound = self.truth.image.check(np.concatenate(parts))
        return "right" if off <= bound else "wrong"


def first_line(error: BaseException) -> str:
    """An error in short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
