"""Small networks of well-known shapes. Every Relu is a module of its own, as captum wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
nn = torch.nn

Module = Any
Tensor = Any
CLASSES = 5


class Fire(nn.Module):  # type: ignore[misc, name-defined]
    """SqueezeNet's module; every Relu is a module of its own, as captum wants it."""

    def __init__(self, before: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze, self.relu = nn.Conv2d(before, squeezed, 1), nn.ReLU()
        self.one, self.relu1 = nn.Conv2d(squeezed, expanded, 1), nn.ReLU()
        self.three, self.relu3 = nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu1(self.one(x)), self.relu3(self.three(x))], 1)


class Squeeze(nn.Sequential):  # type: ignore[misc, name-defined]
    """SqueezeNet's shape: the classifier is a convolution, the pooling comes last."""

    def __init__(self) -> None:
        features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8, 4, 6), Fire(12, 4, 8)
        )
        super().__init__(features, nn.Conv2d(16, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    @property
    def layer(self) -> Module:
        return self[0][-1]


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """Two convolutions around a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.second, self.norm2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(self.relu1(self.norm1(self.first(x)))))
        return self.relu2(y + self.shortcut(x))


class Residual(nn.Sequential):  # type: ignore[misc, name-defined]
    """ResNet's shape: global average pooling and a linear layer."""

    def __init__(self) -> None:
        stem = [nn.Conv2d(3, 6, 7, 2, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        blocks = [Block(6, 6, 1), Block(6, 12, 2)]
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, CLASSES))

    @property
    def layer(self) -> Module:
        return self[5]


class Flat(nn.Sequential):  # type: ignore[misc, name-defined]
    """VGG's shape: flattened, and a hidden layer; its gradient differs from position to position."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 16), nn.ReLU(), nn.Linear(16, CLASSES),
        )  # fmt: skip

    @property
    def layer(self) -> Module:
        return self[4]


NETS: dict[str, Callable[[], Module]] = {"squeeze": Squeeze, "residual": Residual, "flat": Flat}


def trained(name: str) -> Module:
    """Random weights, norms in the state that training leaves them in."""
    torch.manual_seed(3)
    net = NETS[name]().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net
