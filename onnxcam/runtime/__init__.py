"""ONNX Runtime: providers, sessions, batches, the numeric gradient, and what an exported file says of itself."""

from onnxcam.runtime.manifest import (
    DETECTIONS,
    HIGHEST,
    LABELS,
    MANIFEST,
    PREPROCESS,
    USUAL_SIDE,
    ImageInput,
    Layout,
    Manifest,
    Score,
    read_manifest,
)
from onnxcam.runtime.numeric import distance_from_differences, mean_gradient, moved
from onnxcam.runtime.providers import short_name
from onnxcam.runtime.rows import Rows, apart, largest
from onnxcam.runtime.session import STEP, Session
from onnxcam.runtime.wire import metadata

__all__ = [
    "DETECTIONS", "HIGHEST", "LABELS", "MANIFEST", "PREPROCESS", "STEP", "USUAL_SIDE", "ImageInput", "Layout",
    "Manifest", "Rows", "Score", "Session", "apart", "distance_from_differences", "largest", "mean_gradient",
    "metadata", "moved", "read_manifest", "short_name",
]  # fmt: skip
