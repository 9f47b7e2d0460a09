"""Explanations as small pure functions of arrays, and the registry that names them."""

from onnxcam.methods.arrays import Array
from onnxcam.methods.evidence import Evidence
from onnxcam.methods.image import (
    REDUCTIONS,
    channel_max_abs,
    channel_sum,
    guided_backpropagation,
    guided_grad_cam,
    input_x_gradient,
    saliency,
)
from onnxcam.methods.layer import cam, counterfactual, grad_cam, grad_cam_plus_plus, hires_cam, layer_cam
from onnxcam.methods.registry import METHODS, Method, get_method, list_methods
from onnxcam.methods.steps import normalize, relu, resize, status

__all__ = [
    "METHODS",
    "REDUCTIONS",
    "Array",
    "Evidence",
    "Method",
    "cam",
    "channel_max_abs",
    "channel_sum",
    "counterfactual",
    "get_method",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_backpropagation",
    "guided_grad_cam",
    "hires_cam",
    "input_x_gradient",
    "layer_cam",
    "list_methods",
    "normalize",
    "relu",
    "resize",
    "saliency",
    "status",
]
