"""What torch.autograd says of a network: scores and gradients in float32 and float64, at the image and inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from parity_nets import pictures
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Array = npt.NDArray[Any]
CANDIDATES, SEEDS = 6, 4  # images looked at, in so many draws
TRIALS, JITTER = 8, 5e-7  # more float32 passes, and how far weights are moved for them
STEADY = 1e-5  # distance of images that will do
SAME = 1e-4  # activations this near are those of one value
TOLERANCE, NOISES = 1e-4, 10


class Recorder(TorchFunctionMode):
    """Keeps every value that a network computes from its input, in the order in which it computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.values += [v for v in tree_leaves(found) if isinstance(v, Tensor) and v.requires_grad and v.ndim > 2]
        return found


@dataclass(frozen=True)
class Reference:
    """An array of torch's in float64, and how far its own in float32 are from it.

    Attributes:
        value: the array, row by row.
        noise: the largest relative distance.
    """

    value: Array
    noise: float

    @property
    def bound(self) -> float:
        """The distance up to which another one in float32 is right."""
        return max(TOLERANCE, NOISES * self.noise)

    def off(self, found: Array) -> float:
        """How far another array is from it."""
        return distance(found, self.value)

    def check(self, found: Array) -> tuple[float, float]:
        """How far another array is from it, and how far it may be."""
        return self.off(found), self.bound


@dataclass(eq=False)
class Truth:
    """The reference.

    Attributes:
        x: float32 images (2, C, H, W).
        target: the class explained in each.
        scores: (2, K).
        image: the gradient at the images.
    """

    x: Array
    target: Array
    scores: Reference
    image: Reference
    _exact: Pass = field(repr=False)
    _singles: Sequence[Pass] = field(repr=False)

    def at(self, activation: Array) -> Known | None:
        """The value inside the network that equals `activation`; None when torch computes none such."""
        for i, value in enumerate(self._exact.values):
            if value.shape == activation.shape and distance(activation, value.detach().numpy()) < SAME:
                found = [(one.values[i].detach().numpy(), one.gradient(one.values[i])) for one in self.passes]
                if found[0][1] is not None:
                    return Known(found[0], found[1:])
        return None

    @property
    def passes(self) -> list[Pass]:
        """The exact one first."""
        return [self._exact, *self._singles]


Pair = tuple[Array, Array]  # a value and its gradient


@dataclass(frozen=True, eq=False)
class Known:
    """A value inside a network and its gradient, in float64 and in a few passes in float32."""

    exact: Pair
    singles: Sequence[Pair]

    @property
    def gradient(self) -> Reference:
        """The gradient with its noise."""
        return compared([gradient for _, gradient in self.singles], self.exact[1])

    def grad_cam(self, grid: Callable[[Array], Array]) -> Reference:
        """The map, signed, with its noise; `grid` turns the value and its gradient into (N, C, H, W)."""
        maps = [grad_cam(grid(value), grid(gradient)) for value, gradient in (self.exact, *self.singles)]
        return compared(maps[1:], maps[0])


def grad_cam(activation: Array, gradient: Array) -> Array:
    """sum_k mean(g_k) A_k."""
    return np.einsum("nkhw,nk->nhw", activation, gradient.mean((2, 3)))


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass, kept for as many backward passes as are asked for."""

    x: Tensor
    values: Sequence[Tensor]
    scores: Tensor
    target: Tensor

    def gradient(self, value: Tensor) -> Array | None:
        """d score[target] / d value, row by row; None where the score does not depend on it."""
        picked = self.scores.gather(1, self.target[:, None]).sum()
        (grad,) = torch.autograd.grad(picked, value, retain_graph=True, allow_unused=True)
        return None if grad is None else grad.numpy()


def compared(singles: Sequence[Array], exact: Array) -> Reference:
    """Both precisions as one."""
    return Reference(exact, max(distance(single, exact) for single in singles))


def distance(found: Array, wanted: Array) -> float:
    """|found - wanted| / |wanted| in the L2 norm; infinite where their shapes differ or one is not finite."""
    if found.shape != wanted.shape or not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return float("inf")
    off = float(np.linalg.norm((found.astype(np.float64) - wanted).ravel()))
    return off / max(float(np.linalg.norm(wanted.astype(np.float64).ravel())), 1e-300)


def run(net: nn.Module, x: Tensor, target: Tensor | None, recorder: Recorder | None = None) -> Pass:
    """A forward pass; the target is the best class where none is given."""
    x = x.clone().requires_grad_()
    if recorder is None:
        scores = net(x)
    else:
        with recorder:
            scores = net(x)
    values = recorder.values if recorder else ()
    return Pass(x, values, scores, scores.detach().argmax(1) if target is None else target)


def shaken(net: nn.Module, seed: int) -> nn.Module:
    """The network with weights that are a rounding off.

    Rounding may move a value across a rectifier's kink, in any layer, and ONNX Runtime rounds otherwise than torch.
    What that does to a gradient belongs to its noise.
    """
    other = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    for weight in other.parameters():
        weight *= 1 + JITTER * torch.randn(weight.shape, generator=generator)
    return other


def steadiest(nets: Sequence[nn.Module], double: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """The two images, of a few draws, whose float32 gradients are nearest to the float64 one."""
    best: list[tuple[float, Tensor]] = []
    for seed in range(SEEDS):
        x = pictures(CANDIDATES, shape, seed=10 + seed)
        exact = run(double, x.double(), None)
        wanted = exact.gradient(exact.x)
        off = np.zeros(CANDIDATES)
        for net in nets:
            single = run(net, x, exact.target)
            off = np.maximum(off, [distance(*pair) for pair in zip(single.gradient(single.x), wanted, strict=True)])
        best = sorted([*best, *zip(off, x, strict=True)], key=lambda found: float(found[0]))[:2]
        if best[-1][0] < STEADY:
            break
    return torch.stack([image for _, image in best])


def reference(net: nn.Module, shape: tuple[int, int, int]) -> Truth:
    """The truth about a network in eval mode, its image (C, H, W)."""
    double = copy.deepcopy(net).double()
    nets = [net, *(shaken(net, trial) for trial in range(TRIALS))]
    x = steadiest(nets, double, shape)
    exact = run(double, x.double(), None, Recorder())
    singles = [run(other, x, exact.target, Recorder()) for other in nets]
    image = compared([single.gradient(single.x) for single in singles], exact.gradient(exact.x))
    scores = compared([single.scores.detach().numpy() for single in singles], exact.scores.detach().numpy())
    return Truth(x.numpy(), exact.target.numpy(), scores, image, exact, singles)


def both_passes(net: nn.Module, truth: Truth) -> Callable[[], None]:
    """Torch's own forward and backward pass for one image."""
    x, target = torch.from_numpy(truth.x[:1]), torch.from_numpy(truth.target[:1])

    def both() -> None:
        found = run(net, x, target)
        found.scores.gather(1, found.target[:, None]).sum().backward()

    return both
