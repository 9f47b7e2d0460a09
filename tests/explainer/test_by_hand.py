"""Every method on the tiny network, whose maps can be written down: sample_models/README.md says what it computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxcam import Explainer
from onnxcam.methods import list_methods
from tests.nets import Array, as_array, normal

CLASSES = ["red", "green", "blue"]
COLOUR = 1.5 * np.eye(3) - 0.5  # a detector's weights: 1 for its colour, -1/2 for the others
LINEAR = 24 * np.eye(3) - 8  # class, detector: 16 on the diagonal, -8 off it
Z = 64

SCENES: dict[str, Array] = {
    "noise": np.random.default_rng(0).uniform(size=(3, 32, 32)).astype(np.float32),
    "soft": np.clip(0.5 + 0.3 * np.kron(normal(3, 8, 8), np.ones((4, 4))), 0, 1).astype(np.float32),
}


def blocks(x: Array) -> Array:
    """The mean of each 4x4 block, (3, 8, 8)."""
    return as_array(x.astype(np.float64).reshape(3, 8, 4, 8, 4).mean(axis=(2, 4)))


def excess(x: Array) -> Array:
    """The layer's activations, (3, 8, 8)."""
    return as_array(np.maximum(np.einsum("kc,cij->kij", COLOUR, blocks(x)), 0))


def enlarged(grid: Array) -> Array:
    """Each value of an 8x8 grid on its 4x4 pixels."""
    return np.kron(grid, np.ones((4, 4)))


def input_gradient(x: Array, which: int, *, guided: bool = False) -> Array:
    """d logit / d pixel, (3, 32, 32): the detectors that fire, each by its weight for the class and its colours."""
    weights = LINEAR[which] / Z
    weights = np.maximum(weights, 0) if guided else weights
    fires = excess(x) > 0
    return np.stack([enlarged(np.einsum("k,kij->ij", weights * COLOUR[:, c], fires)) for c in range(3)]) / 16


def grad_cam(x: Array, which: int) -> Array:
    return as_array(np.einsum("k,kij->ij", LINEAR[which], excess(x)) / Z)


def plus_plus(x: Array, which: int) -> Array:
    """Eq. 19 with the one positive gradient, 16/64, the same at all positions."""
    a, g = excess(x)[which], 16 / Z
    alpha = g**2 / (2 * g**2 + a.sum() * g**3)
    return as_array(Z * alpha * g * a)


def smooth(grid: Array) -> Array:
    """8 to 32, linear along each axis, half-pixel centres."""
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    columns = np.stack([np.interp(at, np.arange(8), row) for row in grid])
    return np.stack([np.interp(at, np.arange(8), column) for column in columns.T]).T


BY_HAND: dict[str, Callable[[Array, int], Array]] = {
    "gradcam": grad_cam,
    "cam": lambda x, c: grad_cam(x, c) * Z,
    "counterfactual": lambda x, c: -grad_cam(x, c),
    "hirescam": grad_cam,  # the gradient is the same at all positions
    "gradcam++": plus_plus,
    "layercam": lambda x, c: 16 / Z * excess(x)[c],
    "saliency": lambda x, c: np.abs(input_gradient(x, c)).max(axis=0),
    "inputxgradient": lambda x, c: (x * input_gradient(x, c)).sum(axis=0),
    "guidedbackprop": lambda x, c: input_gradient(x, c, guided=True).sum(axis=0),
    "guidedgradcam": lambda x, c: smooth(np.maximum(grad_cam(x, c), 0)) * input_gradient(x, c, guided=True).sum(axis=0),
}
ATTRIBUTIONS: dict[str, Callable[[Array, int], Array]] = {
    "saliency": input_gradient,
    "inputxgradient": lambda x, c: x * input_gradient(x, c),
    "guidedbackprop": lambda x, c: input_gradient(x, c, guided=True),
    "guidedgradcam": lambda x, c: smooth(np.maximum(grad_cam(x, c), 0)) * input_gradient(x, c, guided=True),
}


def test_no_method_is_left_out() -> None:
    assert set(BY_HAND) == {method.name for method in list_methods()}
    assert set(ATTRIBUTIONS) == {method.name for method in list_methods() if method.level == "input"}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("method", BY_HAND)
def test_every_method_as_worked_out_by_hand(tiny: Explainer, method: str, scene: str) -> None:
    x = SCENES[scene]
    for which, e in enumerate(tiny(x, target=CLASSES, method=method)):
        expected = BY_HAND[method](x, which)
        assert (e.map.dtype, e.map.shape, e.gradient) == (np.float32, expected.shape, "symbolic")
        np.testing.assert_allclose(e.map, expected, rtol=0, atol=2e-6 * max(1, float(np.abs(expected).max())))


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_attributions_keep_channels_and_sign(tiny: Explainer, method: str) -> None:
    x = SCENES["noise"]
    for which, e in enumerate(tiny(x, target=[0, 1, 2], method=method)):
        np.testing.assert_allclose(e.attribution, ATTRIBUTIONS[method](x, which), rtol=0, atol=2e-6)
        assert (e.attribution < 0).any()


@pytest.mark.parametrize("method", sorted(set(BY_HAND) - set(ATTRIBUTIONS)))
def test_maps_at_the_layer_have_no_attribution(tiny: Explainer, method: str) -> None:
    assert tiny(SCENES["soft"], method=method).attribution is None


def test_the_colours_of_the_photo(tiny: Explainer, samples: Path) -> None:
    """blobs.png: a quarter on the class's own square, minus an eighth on the other two, nothing elsewhere."""
    e = tiny(samples / "blobs.png")
    assert (e.label, e.target.index, e.score, e.status) == ("red", 0, 1.25, "ok")
    assert e.probability == pytest.approx(np.exp(1.25) / (np.exp(1.25) + 2 * np.exp(-0.625)), rel=1e-6)
    assert (e.layer, e.score_name, e.score_kind, e.gradient) == ("excess", "logits", "logit", "symbolic")
    values, counts = np.unique(e.map, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {-0.125: 8, 0.0: 47, 0.25: 9}
    assert tiny(samples / "blobs.png", method="saliency").layer == "image"


def test_guided_grad_cam_says_which_layer_its_coarse_map_lies_at(squeezenet: Explainer, samples: Path) -> None:
    """Each makes another picture, and two pictures that differ say why."""
    found = [
        squeezenet(samples / "chelsea.png", method="guidedgradcam", layer=layer)
        for layer in ("fire8/concat", "fire5/concat")
    ]
    assert [e.layer for e in found] == ["fire8/concat", "fire5/concat"]
    assert "layer fire8/concat" in found[0].legend()
    assert not np.allclose(found[0].map, found[1].map)


@pytest.mark.parametrize("method", BY_HAND)
def test_a_trained_network(squeezenet: Explainer, samples: Path, method: str) -> None:
    """The answer that sample_models/README.md promises, by every method."""
    e = squeezenet(samples / "chelsea.png", method=method)
    assert (e.target.index, e.label, e.scores.shape) == (285, "Egyptian cat", (1000,))
    assert e.probability == pytest.approx(0.4009, abs=1e-3)
    assert e.status == ("blank" if method == "counterfactual" else "ok")
    of_the_input = method in ATTRIBUTIONS and method != "guidedgradcam"
    assert e.layer == {"cam": "relu_conv10"}.get(method, "data" if of_the_input else "fire9/concat")


def test_the_photo_of_a_trained_network_is_dark_where_it_did_not_look(squeezenet: Explainer, samples: Path) -> None:
    """The 227 pixels of the crop are 266 of the photo's; each eye's and the whiskers' cells stand out of the face."""
    e = squeezenet(samples / "chelsea.png")
    rows, columns = (np.flatnonzero(e.heatmap.any(axis=axis)) for axis in (1, 0))
    assert e.heatmap.shape == (300, 451)
    assert (rows[0], rows[-1], columns[0], columns[-1]) == pytest.approx((16, 281, 92, 358), abs=1)
    assert e.heatmap.max() == pytest.approx(1, abs=0.01)
    assert np.unravel_index(e.heatmap.argmax(), e.heatmap.shape) == pytest.approx((212, 170), abs=12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("photo", "dog", "cat"),
    [
        ("both_dog_cat.png", (78, 14, 165, 148), (44, 119, 200, 223)),
        ("cat_dog.jpg", (222, 30, 471, 318), (126, 254, 570, 479)),
    ],
)
def test_dog_and_cat_on_one_photo(
    squeezenet: Explainer, shared: Path, photo: str, dog: tuple[int, ...], cat: tuple[int, ...]
) -> None:
    """The paper's picture: bull mastiff and Egyptian cat each have more of their energy in their own box."""

    def share(heat: Array, box: tuple[int, ...]) -> float:
        left, top, right, bottom = box
        return float(heat[top:bottom, left:right].sum() / heat.sum())

    on_dog, on_cat = (e.heatmap for e in squeezenet(shared / "images" / photo, target=[243, 285]))
    assert share(on_dog, dog) > 1.3 * share(on_dog, cat)
    assert share(on_cat, cat) > 1.3 * share(on_cat, dog)
