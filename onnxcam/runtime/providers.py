"""Execution providers: asked for by a short name, and never another one in silence."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from onnxcam.arguments import NAME, require
from onnxcam.errors import ProviderError

SHORT = {
    "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider", "coreml": "CoreMLExecutionProvider", "openvino": "OpenVINOExecutionProvider",
    "rocm": "ROCMExecutionProvider", "migraphx": "MIGraphXExecutionProvider", "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider", "webgpu": "WebGpuExecutionProvider",
}  # fmt: skip
SHORT_OF = {full: name for name, full in SHORT.items()}
REMOTE = "AzureExecutionProvider"  # calls services; it takes none of ONNX's operators, all would run on the CPU


def load_onnxruntime() -> ModuleType:
    """The onnxruntime module; ProviderError with the cure when it is missing or two builds overwrote each other."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            "ONNX Runtime is not installed: `pip install onnxcam[cpu]`, or `onnxcam[cuda]` for an NVIDIA GPU"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ProviderError(
            "the ONNX Runtime installation is damaged (onnxruntime and onnxruntime-gpu share one folder): "
            "uninstall both, then install one of them"
        )
    module: ModuleType = onnxruntime
    return module


def full_name(provider: str) -> str:
    """ONNX Runtime's spelling of a provider."""
    return SHORT.get(provider.lower(), provider)


def short_name(provider: str) -> str:
    """Our spelling of ONNX Runtime's provider."""
    return SHORT_OF.get(provider, provider)


def provider_list(provider: str) -> list[Any]:
    """What a session is asked for: the provider, and the CPU for nodes it cannot take.

    Raises:
        ProviderError: unknown, not in the installed build of ONNX Runtime, or one that runs no operators.
    """
    require("provider", provider, NAME)
    name = full_name(provider)
    if name == REMOTE:
        raise ProviderError(f"the provider '{provider}' calls services and runs no model itself: choose --provider cpu")
    available = [p for p in load_onnxruntime().get_available_providers() if p != REMOTE]
    if name not in available:
        there = ", ".join(short_name(p) for p in available)
        cure = ": `pip uninstall onnxruntime`, then `pip install onnxcam[cuda]`" if name == SHORT["cuda"] else ""
        raise ProviderError(f"the provider '{provider}' is not in this build of ONNX Runtime (it has {there}){cure}")
    cpu = SHORT["cpu"]
    return [name] if name == cpu else [name, cpu]


def check_provider(running: list[str], asked: str) -> str:
    """The provider a session runs on; ProviderError when ONNX Runtime fell back to another."""
    name = full_name(asked)
    if not running or running[0] != name:
        found = short_name(running[0]) if running else "none"
        raise ProviderError(
            f"the provider '{asked}' cannot run on this machine (ONNX Runtime fell back to {found}): "
            "check the driver and its libraries, or choose --provider cpu"
        )
    return name
