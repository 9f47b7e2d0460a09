"""Reverse-mode differentiation of ONNX graphs: the gradient as more ONNX."""

from onnxcam.vjp import rules as _registered  # noqa: F401  (importing it fills the registry)
from onnxcam.vjp.differentiate import Differentiated, differentiate
from onnxcam.vjp.head import (
    GRADIENT,
    SEED,
    RowGraph,
    all_scores,
    class_gradient,
    class_score,
    rounding,
    seeded_gradient,
    whole_class_gradient,
    whole_seeded_gradient,
)
from onnxcam.vjp.operators import OUT_OF_SCOPE, UPGRADED, Operator, list_operators
from onnxcam.vjp.registry import NO_GRADIENT, STANDARD, RuleSet
from onnxcam.vjp.rows import CLASS
from onnxcam.vjp.rules.guided import DECONVNET, GUIDED

__all__ = [
    "CLASS", "DECONVNET", "GRADIENT", "GUIDED", "NO_GRADIENT", "OUT_OF_SCOPE", "SEED", "STANDARD", "UPGRADED",
    "Differentiated", "Operator", "RowGraph", "RuleSet", "all_scores", "class_gradient", "class_score",
    "differentiate", "list_operators", "rounding", "seeded_gradient",
    "whole_class_gradient", "whole_seeded_gradient",
]  # fmt: skip
