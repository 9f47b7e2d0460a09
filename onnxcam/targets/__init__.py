"""What is explained: targets, labels, and how a user names them."""

from onnxcam.targets.forms import NOTHING, best, class_target, some_target
from onnxcam.targets.kinds import (
    SATURATED,
    ClassTarget,
    DifferenceTarget,
    NegatedTarget,
    Target,
    WeightedTarget,
    check_class,
)
from onnxcam.targets.labels import check_labels, imagenet_labels, parse_labels, read_labels
from onnxcam.targets.reading import BLANK, BOX, Reading, class_counts
from onnxcam.targets.resolve import Spec, index_of, named_output, resolve
from onnxcam.targets.selections import ElementTarget, ProductTarget, RegionTarget
from onnxcam.targets.sequences import SimilarityTarget, TokensTarget

__all__ = [
    "BLANK", "BOX", "NOTHING", "SATURATED", "ClassTarget", "DifferenceTarget", "ElementTarget", "NegatedTarget",
    "ProductTarget", "Reading", "RegionTarget", "SimilarityTarget", "Spec", "Target", "TokensTarget", "WeightedTarget",
    "best", "check_class", "check_labels", "class_counts", "class_target", "imagenet_labels", "index_of",
    "named_output", "parse_labels", "read_labels", "resolve", "some_target",
]  # fmt: skip
