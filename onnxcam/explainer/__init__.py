"""Explanations of one model: the floors below, wired together."""

from onnxcam.explainer.core import Explainer, explain
from onnxcam.explainer.explanation import Explanation, Item
from onnxcam.explainer.recipes import as_labels, choose_recipe
from onnxcam.explainer.subject import Ask, Seen, Subject, TargetLayer

__all__ = [
    "Ask", "Explainer", "Explanation", "Item", "Seen", "Subject", "TargetLayer", "as_labels", "choose_recipe",
    "explain",
]  # fmt: skip
