"""Explains ONNX image models: Grad-CAM and its relatives, by rewriting ONNX graphs.

Nothing below is imported before it is used: `import onnxcam` loads neither onnx nor onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxcam.checking import check
    from onnxcam.errors import (
        ImageError,
        InputError,
        LayerError,
        ModelError,
        OnnxCamError,
        OutputError,
        PreprocessError,
        ProviderError,
        TargetError,
        UnsupportedOpError,
        UsageError,
        VerificationError,
    )
    from onnxcam.explainer import Explainer, Explanation, explain
    from onnxcam.exporting import export
    from onnxcam.graph import list_layers
    from onnxcam.methods import list_methods
    from onnxcam.targets import Target
    from onnxcam.vjp import Differentiated, differentiate, list_operators

__version__ = "0.1.0"

__all__ = [
    "Differentiated",
    "Explainer",
    "Explanation",
    "ImageError",
    "InputError",
    "LayerError",
    "ModelError",
    "OnnxCamError",
    "OutputError",
    "PreprocessError",
    "ProviderError",
    "Target",
    "TargetError",
    "UnsupportedOpError",
    "UsageError",
    "VerificationError",
    "__version__",
    "check",
    "differentiate",
    "explain",
    "export",
    "list_layers",
    "list_methods",
    "list_operators",
]

_HOME = {
    "Differentiated": "vjp",
    "Explainer": "explainer",
    "Explanation": "explainer",
    "Target": "targets",
    "check": "checking",
    "differentiate": "vjp",
    "explain": "explainer",
    "export": "exporting",
    "list_layers": "graph",
    "list_methods": "methods",
    "list_operators": "vjp",
}


def __getattr__(name: str) -> Any:
    """Imports the public name from the module it lives in (PEP 562); the errors live in `errors`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
