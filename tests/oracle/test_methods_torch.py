"""Explanations of networks exported from PyTorch against autograd, and against the peer that is right for each method.

torchcam: Grad-CAM, LayerCAM. pytorch-grad-cam, before its ReLU and min-max: Grad-CAM, HiResCAM, LayerCAM. captum:
saliency, input x gradient, guided backpropagation. No peer's Grad-CAM++ is the paper's: that is eq. 19, in torch.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, Explanation, differentiate
from tests.nets import Array, run
from tests.oracle.networks import CLASSES, NETS, Flat, Module, Residual, Tensor, torch, trained
from tests.oracle.peers import importable, peer

F = torch.nn.functional
pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module", autouse=True)
def peers() -> Iterator[None]:
    with importable():
        yield


def exported(net: Module, x: Tensor, exporter: str) -> bytes:
    """ONNX by either of torch's exporters, the batch left free."""
    held = io.BytesIO()
    names = {"input_names": ["image"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            if importlib.util.find_spec("onnxscript") is None:
                pytest.skip("torch's new exporter needs onnxscript")
            free = ({0: torch.export.Dim("batch")},)
            program = torch.onnx.export(net, (x,), dynamo=True, dynamic_shapes=free, verbose=False, **names)
            program.save(held)
        else:
            torch.onnx.export(net, (x,), held, dynamo=False, dynamic_axes={"image": {0: "batch"}}, **names)
    return held.getvalue()


@dataclass(frozen=True)
class Both:
    """A network here and there."""

    net: Module
    model: bytes
    explainer: Explainer
    x: Tensor

    def explain(self, method: str, classes: Array) -> list[Explanation]:
        """A row of `x` each, for one class."""
        rows = self.explainer(self.x.numpy(), target=range(CLASSES), method=method)
        return [row[which] for row, which in zip(rows, classes, strict=True)]

    def at_layer(self, classes: Array) -> tuple[Tensor, Tensor]:
        """Activations and their gradient by autograd, float64."""
        held: list[Tensor] = []
        net = self.net.double()
        handle = net.layer.register_forward_hook(lambda module, given, out: held.append(out))
        scores = net(self.x.double())
        handle.remove()
        (gradient,) = torch.autograd.grad(scores[range(len(classes)), classes].sum(), held[0])
        self.net.float()
        return held[0].detach(), gradient


EXPORTED = [(net, exporter) for net in NETS for exporter in ("torchscript", "dynamo")]


@pytest.fixture(scope="module", params=EXPORTED, ids="-".join)
def both(request: pytest.FixtureRequest) -> Both:
    name, exporter = request.param
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    net = trained(name)
    model = exported(net, x, exporter)
    return Both(net, model, Explainer(model), x)


CHOSEN = np.array([3, 0, 4, 1])


def attributions(found: list[Explanation]) -> Array:
    return np.stack([e.attribution for e in found if e.attribution is not None])


def close(found: Array, expected: Tensor, *, within: float = 2e-5) -> None:
    """Equal up to float32's rounding, relative to the largest value."""
    reference = np.asarray(expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected, np.float64)
    assert found.shape == reference.shape
    assert np.abs(found - reference).max() <= within * np.abs(reference).max()


def maps(found: list[Explanation]) -> Array:
    return np.stack([e.map for e in found])


# -- against autograd -------------------------------------------------------------------------------


def test_scores_and_the_automatic_layer(both: Both) -> None:
    """The layer found in the graph is the one that people name in PyTorch."""
    found = both.explainer(both.x.numpy())
    close(np.stack([e.scores for e in found]), both.net(both.x))
    activations, _ = both.at_layer(CHOSEN)
    seen = both.explainer.subject.see(both.x.numpy(), both.explainer.subject.target_layer(None, "gradcam"), "symbolic")
    close(seen.values[found[0].layer], activations)


def test_gradients_are_autograds(both: Both) -> None:
    layer, score = (e := both.explainer(both.x[0].numpy())).layer, e.score_name
    result = differentiate(both.model, of=score, wrt=[layer, "image"])
    seed = np.eye(CLASSES, dtype=np.float32)[CHOSEN]
    found = run(result.model, {"image": both.x.numpy(), result.seed: seed})
    _, at_layer = both.at_layer(CHOSEN)
    close(found[result.gradients[layer]], at_layer)
    close(found[result.gradients["image"]], input_gradient(both, CHOSEN))
    onnx.checker.check_model(result.model)


def input_gradient(both: Both, classes: Array) -> Tensor:
    x = both.x.double().requires_grad_()
    scores = both.net.double()(x)
    (gradient,) = torch.autograd.grad(scores[range(len(classes)), classes].sum(), x)
    both.net.float()
    return gradient


def test_counterfactual_negates_the_gradient(both: Both) -> None:
    a, g = both.at_layer(CHOSEN)
    close(maps(both.explain("counterfactual", CHOSEN)), ((-g).mean(dim=(2, 3), keepdim=True) * a).sum(1))


def test_grad_cam_plus_plus_is_equation_19(both: Both) -> None:
    """alpha = g^2 / (2 g^2 + sum(A) g^3), 0/0 = 0, and w = sum of alpha relu(g); no epsilon anywhere."""
    a, g = both.at_layer(CHOSEN)
    bottom = 2 * g**2 + a.sum(dim=(2, 3), keepdim=True) * g**3
    alpha = torch.where(bottom != 0, g**2 / torch.where(bottom != 0, bottom, 1), 0)
    weights = (alpha * g.relu()).sum(dim=(2, 3), keepdim=True)
    close(maps(both.explain("gradcam++", CHOSEN)), (weights * a).sum(1), within=5e-5)


def test_cam_where_there_is_one(both: Both) -> None:
    """Of the residual net from its linear layer's weights, of the squeezed one the class maps."""
    if isinstance(both.net, Flat):
        return
    a, _ = both.at_layer(CHOSEN)
    if isinstance(both.net, Residual):
        expected = torch.einsum("nk,nkij->nij", both.net[-1].weight[CHOSEN].double(), a)
    else:
        expected = both.net[1].double()(a).relu()[range(4), CHOSEN]
        both.net.float()
    close(maps(both.explain("cam", CHOSEN)), expected)


# -- against peers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "method"), [("GradCAM", "gradcam"), ("LayerCAM", "layercam")])
def test_torchcam(both: Both, name: str, method: str) -> None:
    """It gives maps behind the ReLU."""
    with getattr(peer("torchcam.methods"), name)(both.net, both.net.layer) as extractor:
        (expected,) = extractor(CHOSEN.tolist(), both.net(both.x), normalized=False)
    close(np.maximum(maps(both.explain(method, CHOSEN)), 0), expected)


@pytest.mark.parametrize(
    ("name", "method"), [("GradCAM", "gradcam"), ("HiResCAM", "hirescam"), ("LayerCAM", "layercam")]
)
def test_pytorch_grad_cam(both: Both, name: str, method: str) -> None:
    """Its own activations, gradients and formula; what it does afterwards (ReLU, min-max, resizing) is left out."""
    cam = getattr(peer("pytorch_grad_cam"), name)(both.net, [both.net.layer])
    scores = cam.activations_and_grads(both.x)
    scores[range(4), CHOSEN].sum().backward()
    a, g = (held[0].numpy() for held in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients))
    cam.activations_and_grads.release()
    close(maps(both.explain(method, CHOSEN)), cam.get_cam_image(both.x, None, None, a, g, False))


def captum(both: Both, name: str, **options: Any) -> Tensor:
    """An attribution by captum."""
    method = getattr(peer("captum.attr"), name)(both.net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hooks that it sets, and of gradients that it asks for itself
        return method.attribute(both.x.clone(), target=torch.tensor(CHOSEN), **options).detach()


def test_captums_saliency(both: Both) -> None:
    found, expected = both.explain("saliency", CHOSEN), captum(both, "Saliency", abs=False)
    close(attributions(found), expected)
    close(maps(found), expected.abs().amax(1))


def test_captums_input_x_gradient(both: Both) -> None:
    found, expected = both.explain("inputxgradient", CHOSEN), captum(both, "InputXGradient")
    close(attributions(found), expected)
    close(maps(found), expected.sum(1))


def test_captums_guided_backpropagation(both: Both) -> None:
    found, expected = both.explain("guidedbackprop", CHOSEN), captum(both, "GuidedBackprop")
    close(attributions(found), expected)
    close(maps(found), expected.sum(1))


def test_guided_grad_cam(both: Both) -> None:
    """Grad-CAM behind its ReLU, enlarged by torch, times captum's guided backpropagation."""
    a, g = both.at_layer(CHOSEN)
    coarse = (g.mean(dim=(2, 3), keepdim=True) * a).sum(1, keepdim=True).relu()
    mask = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)
    expected = mask * captum(both, "GuidedBackprop")
    close(attributions(both.explain("guidedgradcam", CHOSEN)), expected)
