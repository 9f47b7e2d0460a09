"""Explanations of one model: the floors below, wired together."""

from onnxcam.explainer.core import Explainer, explain, open_subject
from onnxcam.explainer.explanation import Explanation, Item
from onnxcam.explainer.files import save_array
from onnxcam.explainer.recipes import as_labels, choose_recipe
from onnxcam.explainer.subject import Ask, Place, Seen, Subject
from onnxcam.explainer.task import advised

__all__ = [
    "Ask", "Explainer", "Explanation", "Item", "Place", "Seen", "Subject", "advised", "as_labels", "choose_recipe",
    "explain", "open_subject", "save_array",
]  # fmt: skip
