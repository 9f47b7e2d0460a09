"""The methods by name: one row each, a function and what has to be known about it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from onnxcam.arguments import NAME, require
from onnxcam.errors import UsageError, did_you_mean
from onnxcam.methods.arrays import Array
from onnxcam.methods.evidence import Evidence
from onnxcam.methods.image import REDUCTIONS, guided_backpropagation, guided_grad_cam, input_x_gradient, saliency
from onnxcam.methods.layer import cam, counterfactual, grad_cam, grad_cam_plus_plus, hires_cam, layer_cam


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to explain.

    Attributes:
        name: what a user types, and files are called by: a-z and + alone.
        title: what a legend says.
        level: "layer", a map at the target layer's resolution; "input", an attribution to every element of the image.
        function: the method itself; its parameters are named after the fields of Evidence that it reads.
        paper: where it comes from.
        reduce: the name in REDUCTIONS that turns an attribution into a map; None where the function returns the map.
        signed: whether the negative part of the map is shown too, with a diverging colour map and no relu.
        mean_only: whether the gradient's mean over positions is enough, and so a numeric gradient.
    """

    name: str
    title: str
    level: Literal["layer", "input"]
    function: Callable[..., Array]
    paper: str
    reduce: str | None = None
    signed: bool = False
    mean_only: bool = False

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The fields of Evidence that the method reads."""
        return tuple(inspect.signature(self.function).parameters)

    @cached_property
    def uses_layer(self) -> bool:
        """Whether it reads a target layer (Guided Grad-CAM does, though its map is the input's)."""
        return bool({"activations", "gradients", "weights"} & set(self.needs))

    @np.errstate(all="ignore")  # a map that is not finite is told by its status
    def compute(self, evidence: Evidence) -> Array:
        """What the function makes of the evidence: the raw map (N, *S), for an input-level method (N, C, *S).

        Raises UsageError where the evidence lacks something.
        """
        read: list[Array] = []
        missing: list[str] = []
        for need in self.needs:
            array = getattr(evidence, need)
            if array is None:
                missing.append(need)
            else:
                read.append(array)
        if missing:
            raise UsageError(f"{self.name} needs {' and '.join(missing)}: give the evidence a value for each")
        return self.function(*read)

    def to_map(self, computed: Array) -> Array:
        """The raw map (N, *S), float32, of what `compute` returned: channels reduced where there are any."""
        if self.reduce is None and computed.dtype == np.float32:
            return computed
        with np.errstate(all="ignore"):
            raw = REDUCTIONS[self.reduce](computed) if self.reduce else computed
            return raw.astype(np.float32, copy=False)


_GRAD_CAM = "Selvaraju et al., Grad-CAM, IJCV 128, 2020, arXiv:1610.02391"

METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method(name="gradcam", title="Grad-CAM", level="layer", function=grad_cam, mean_only=True, paper=_GRAD_CAM),
        Method(
            name="cam",
            title="CAM",
            level="layer",
            function=cam,
            mean_only=True,
            paper="Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, arXiv:1512.04150",
        ),
        Method(
            name="counterfactual",
            title="Counterfactual Grad-CAM",
            level="layer",
            function=counterfactual,
            mean_only=True,
            paper=_GRAD_CAM,
        ),
        Method(
            name="hirescam",
            title="HiResCAM",
            level="layer",
            function=hires_cam,
            paper="Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020, arXiv:2011.08891",
        ),
        Method(
            name="gradcam++",
            title="Grad-CAM++",
            level="layer",
            function=grad_cam_plus_plus,
            paper="Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063",
        ),
        Method(
            name="layercam",
            title="LayerCAM",
            level="layer",
            function=layer_cam,
            paper="Jiang et al., LayerCAM, IEEE Transactions on Image Processing 30, 2021",
        ),
        Method(
            name="saliency",
            title="Saliency",
            level="input",
            function=saliency,
            reduce="max of absolute values",
            paper="Simonyan et al., Deep Inside Convolutional Networks, 2013, arXiv:1312.6034",
        ),
        Method(
            name="inputxgradient",
            title="Input x gradient",
            level="input",
            function=input_x_gradient,
            reduce="sum",
            signed=True,
            paper="Shrikumar et al., Not Just a Black Box, 2016, arXiv:1605.01713",
        ),
        Method(
            name="guidedbackprop",
            title="Guided backpropagation",
            level="input",
            function=guided_backpropagation,
            reduce="sum",
            signed=True,
            paper="Springenberg et al., Striving for Simplicity, ICLR workshop 2015, arXiv:1412.6806",
        ),
        Method(
            name="guidedgradcam",
            title="Guided Grad-CAM",
            level="input",
            function=guided_grad_cam,
            reduce="sum",
            signed=True,
            paper=_GRAD_CAM,
        ),
    )
}

_ALIASES = {
    "gradcampp": "gradcam++",
    "gradcamplusplus": "gradcam++",
    "counterfactualgradcam": "counterfactual",
    "gradient": "saliency",
    "vanillagradient": "saliency",
    "gradientxinput": "inputxgradient",
    "inputgradient": "inputxgradient",
    "inputtimesgradient": "inputxgradient",
    "guidedbackpropagation": "guidedbackprop",
}


def get_method(name: str) -> Method:
    """The method of that name, whatever its case and punctuation ("Grad-CAM", "grad_cam") or by an alias.

    Raises UsageError, with the nearest names, for one that nobody knows.
    """
    if isinstance(name, str) and name in METHODS:
        return METHODS[name]
    require("method", name, NAME)
    plain = re.sub(r"[^a-z0-9+]", "", name.lower())
    method = METHODS.get(_ALIASES.get(plain, plain))
    if method is None:
        near = did_you_mean(plain, METHODS) or f"; there are {', '.join(METHODS)}"
        raise UsageError(f"unknown method {name!r}{near}")
    return method


def list_methods() -> list[Method]:
    """Every method, the default one first, then layer-level before input-level."""
    return list(METHODS.values())
