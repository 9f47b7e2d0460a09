"""Every error that onnxcam raises on purpose.

OnnxCamError
├── ModelError            the model cannot be read, or is not what it has to be
│   ├── UnsupportedOpError    an operator on the gradient's path has no rule
│   └── InputError            the model does not run, or says nothing, on this input
├── LayerError            no such layer, or one that cannot be explained
├── TargetError           no such class, label, element
├── ImageError            an image that cannot be read
├── OutputError           a file that cannot be written
├── PreprocessError       a recipe that cannot be understood or applied
├── ProviderError         an execution provider that is not to be had
├── VerificationError     a check of our own result failed
└── UsageError            arguments that do not go together
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MANY = 10**15


class OnnxCamError(Exception):
    """The base: one line for a person, saying what is wrong with which thing and what to do instead."""


class ModelError(OnnxCamError):
    """The model cannot be read, or is not what it has to be."""


class UnsupportedOpError(ModelError):
    """An operator on the gradient's path has no rule.

    Attributes:
        op: its type, with the domain when it is not ONNX's own.
        opset: the version of its domain.
        node: the node's name, or its first output.
        why: the reason, where there is more to say than that no rule exists.
    """

    def __init__(self, op: str, opset: int, node: str, advice: str, why: str = "") -> None:
        told = f"{why}; {advice}" if why else advice
        super().__init__(f"no gradient for {op} (opset {opset}) at node '{node}': {told}")
        self.op, self.opset, self.node, self.why = op, opset, node, why

    def advising(self, advice: str) -> UnsupportedOpError:
        """The same with other advice, from somebody who knows what was asked for."""
        return UnsupportedOpError(self.op, self.opset, self.node, advice, self.why)


class InputError(ModelError):
    """The model does not run on this input, or its scores are not finite there."""


class LayerError(OnnxCamError):
    """No such layer, or one that cannot be explained."""


class TargetError(OnnxCamError):
    """No such class, label or element."""


class ImageError(OnnxCamError):
    """An image that cannot be read."""


class OutputError(OnnxCamError):
    """A file that cannot be written."""


class PreprocessError(OnnxCamError):
    """A preprocessing recipe that cannot be understood, or does not fit the model."""


class ProviderError(OnnxCamError):
    """An execution provider that is not to be had on this machine."""


class VerificationError(OnnxCamError):
    """A result of ours that does not stand its own check."""


class UsageError(OnnxCamError):
    """Arguments that do not go together."""


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """A clause that names the nearest of `known`, the semicolon before it included; empty when nothing is near."""
    near = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def counted(number: int) -> str:
    """A number in words; Python writes out none of very many digits."""
    return f"{number:,}" if number < MANY else f"over {MANY:,}"


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
