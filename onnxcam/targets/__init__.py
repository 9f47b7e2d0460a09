"""What is explained: targets, labels, and how a user names them."""

from onnxcam.targets.kinds import ClassTarget, DifferenceTarget, Target, WeightedTarget
from onnxcam.targets.labels import check_labels, imagenet_labels, parse_labels, read_labels
from onnxcam.targets.resolve import Spec, best, resolve

__all__ = [
    "ClassTarget", "DifferenceTarget", "Spec", "Target", "WeightedTarget", "best", "check_labels", "imagenet_labels",
    "parse_labels", "read_labels", "resolve",
]  # fmt: skip
