"""ONNX Runtime sessions: quiet, not spinning, on the provider that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnxcam.arguments import is_text
from onnxcam.errors import InputError, ModelError
from onnxcam.runtime.providers import check_provider, load_onnxruntime, provider_list

Feeds = Mapping[str, npt.NDArray[Any]]
NO_OPTIMIZATION = "ORT_DISABLE_ALL"
STEP = 32  # pixels: five halvings


@dataclass(frozen=True)
class Port:
    """An input or output of a session: dimensions are ints, symbols or None; type as in "tensor(float)"."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class Session:
    """A model ready to run.

    Attributes:
        provider: the execution provider that really runs it, in ONNX Runtime's spelling.
    """

    def __init__(
        self,
        model: bytes | str | Path,
        *,
        folder: str | Path | None = None,
        provider: str = "cpu",
        threads: int = 0,
        optimize: bool = True,
        pack: bool = True,
        keep: Path | None = None,
        name: str = "the model",
    ) -> None:
        """Open a model.

        Args:
            model: a path, or serialized bytes whose external data lies in `folder`.
            provider: as `provider_list` takes it.
            threads: for one operator; 0 leaves it to ONNX Runtime.
            optimize: False runs the graph exactly as written.
            pack: whether operators lay their weights out anew, which is faster for many rows and holds them twice.
            keep: where ONNX Runtime writes the graph that it made of it.
            name: what messages call the model.

        Raises:
            ProviderError: the provider cannot run here.
            ModelError: ONNX Runtime refuses the model.
        """
        ort = load_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; warnings are not the user's
        options.intra_op_num_threads = threads
        for pool in ("intra", "inter"):
            options.add_session_config_entry(f"session.{pool}_op.allow_spinning", "0")
        if not isinstance(model, bytes) and not is_text(str(model)):
            raise ModelError(f"ONNX Runtime cannot load {name}: the path is not UTF-8, rename it")
        if isinstance(model, bytes) and folder is not None and is_text(str(folder)):
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        if not optimize:
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, NO_OPTIMIZATION)
        if not pack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if keep is not None:
            options.optimized_model_filepath = str(keep)
        providers = provider_list(provider)
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model), sess_options=options, providers=providers
            )
        except ort_errors() as error:
            raise ModelError(f"ONNX Runtime cannot load {name}: {reason(error)}") from error
        self.provider: str = check_provider(self._session.get_providers(), provider)
        inputs = [*self._session.get_inputs(), *self._session.get_overridable_initializers()]
        self.inputs = [Port(p.name, p.type, tuple(p.shape or ())) for p in inputs]
        self.outputs = [Port(p.name, p.type, tuple(p.shape or ())) for p in self._session.get_outputs()]

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """Outputs by name; ModelError with ONNX Runtime's reason when the run fails."""
        names = [port.name for port in self.outputs] if outputs is None else list(outputs)
        try:
            values = self._session.run(names, dict(feeds))
        except ort_errors() as error:
            advice = next(filter(None, (whole_steps(port, feeds.get(port.name)) for port in self.inputs)), "")
            raise InputError(f"the model does not run on this input{advice}: {reason(error)}") from error
        return dict(zip(names, values, strict=True))


def whole_steps(port: Port, fed: Any) -> str:
    """Advice for an image of free size whose sides are no multiples of 32, which models that halve it so often want."""
    shape = getattr(fed, "shape", ())
    free = [axis for axis, size in enumerate(port.shape) if axis and not isinstance(size, int)]
    sides = [shape[axis] for axis in free] if len(port.shape) == len(shape) == 4 else []
    if len(sides) != 2 or all(side % STEP == 0 for side in sides):
        return ""
    height, width = (max(round(side / STEP), 1) * STEP for side in sides)
    return f" (many models of free size take multiples of {STEP} alone, such as {width} x {height})"


NO_OPERATOR = r"No Op registered for (\S+) with domain_version of (\d+)"  # behind a node and all that it reads


def ort_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime's binding raises: pybind's translations of its status codes, and Python's own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail, state.InvalidArgument, state.NoSuchFile, state.NoModel, state.EngineError, state.RuntimeException,
        state.InvalidProtobuf, state.ModelLoaded, state.NotImplemented, state.InvalidGraph, state.EPFail,
        RuntimeError, ValueError, TypeError, OverflowError, MemoryError,
    )  # fmt: skip


def reason(error: Exception) -> str:
    """One line of ONNX Runtime's message, without status codes and source files."""
    text = " ".join(str(error).split())
    if unknown := re.search(NO_OPERATOR, text):
        return f"it has no operator {unknown[1]:.80} (opset {unknown[2]}): export the model again in standard operators"
    marker = text.find(" : ", text.find("[ONNXRuntimeError]")) if "[ONNXRuntimeError]" in text else -1
    if marker >= 0:
        text = text[marker + 3 :].split(" : ", 2)[-1]
    if re.search(r"\.(cc|h):\d", text) and "] " not in text and (cut := text.rfind(") ")) > 0:
        text = text[cut + 2 :] or text  # behind the place in the source and the function's signature
    return text[:300].strip() or type(error).__name__
