"""Networks to time: the shapes of ResNet-18, MobileNetV2 and VGG-11, with seeded random weights.

They cost what the trained ones cost and say nothing about pictures. Input `input` [N, 3, 224, 224], output `logits`
[N, 1000], opset 18, BatchNorm folded into the convolutions as exporters fold it. Weights are He-initialized (2015,
gain 2 before a Relu, 1 before none), the last convolution of a residual branch at a quarter of that variance, so that
activations stay finite from the first layer to the last and the logits differ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from graph_builder import GraphBuilder

CLASSES = 1000
OPSET = 18
RELU_GAIN = 2.0  # half of what goes through a Relu is lost
LINEAR_GAIN = 1.0
BRANCH_GAIN = 0.25  # a sum over blocks grows slowly


class RandomNet(GraphBuilder):
    """A builder that draws the weights of each layer from one seeded generator."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)

    def drawn(self, name: str, shape: tuple[int, ...], gain: float) -> list[str]:
        """Weight [out, in, ...] with variance gain / fan-in, and a small bias [out]."""
        weight = self.random.standard_normal(shape, np.float32) * np.float32(np.sqrt(gain / np.prod(shape[1:])))
        bias = self.random.standard_normal(shape[0], np.float32) * np.float32(0.05)
        return [self.weight(f"{name}.weight", weight), self.weight(f"{name}.bias", bias)]

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        gain: float,
    ) -> str:
        """A convolution from channels[0] to channels[1], padded so that only the stride shrinks the grid."""
        into, out = channels
        parameters = self.drawn(name, (out, into // groups, kernel, kernel), gain)
        return self.op(
            "Conv",
            [x, *parameters],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=groups,
        )

    def linear(self, x: str, name: str, features: tuple[int, int], *, gain: float) -> str:
        """A fully connected layer from features[0] to features[1]."""
        into, out = features
        return self.op("Gemm", [x, *self.drawn(name, (out, into), gain)], name, transB=1)

    def pooled_classifier(self, x: str, channels: int) -> None:
        """Global average pooling and a linear layer: the head of ResNet and MobileNetV2."""
        x = self.op("GlobalAveragePool", [x], "pool")
        x = self.op("Flatten", [x], "features", axis=1)
        self.linear(x, "logits", (channels, CLASSES), gain=LINEAR_GAIN)

    def write(self, folder: Path, name: str) -> Path:
        """Saves the net as `name`.onnx in `folder`."""
        path = folder / f"{name}.onnx"
        return self.save(path, inputs={"input": ["N", 3, 224, 224]}, outputs={"logits": ["N", CLASSES]}, opset=OPSET)


# -- ResNet-18 (He et al. 2016) -------------------------------------------------------------------


def build_resnet18(folder: Path) -> Path:
    """resnet18.onnx, 47 MB: four stages of two basic blocks."""
    net = RandomNet()
    x = net.conv("input", "conv1", (3, 64), 7, stride=2, gain=RELU_GAIN)
    x = net.op("Relu", [x], "relu1")
    x = net.op("MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            x = basic_block(net, x, f"layer{stage}.{block}", (channels, width), stride)
            channels = width
    net.pooled_classifier(x, channels)
    return net.write(folder, "resnet18")


def basic_block(net: RandomNet, x: str, name: str, channels: tuple[int, int], stride: int) -> str:
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""
    into, out = channels
    y = net.conv(x, f"{name}.conv1", channels, 3, stride=stride, gain=RELU_GAIN)
    y = net.op("Relu", [y], f"{name}.relu1")
    y = net.conv(y, f"{name}.conv2", (out, out), 3, gain=BRANCH_GAIN)
    if into != out:
        x = net.conv(x, f"{name}.downsample", channels, 1, stride=stride, gain=LINEAR_GAIN)
    x = net.op("Add", [y, x], f"{name}.add")
    return net.op("Relu", [x], f"{name}.relu2")


# -- MobileNetV2 (Sandler et al. 2018) ------------------------------------------------------------

# expansion, channels, repeats, first stride: the paper's table 2
INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build_mobilenetv2(folder: Path) -> Path:
    """mobilenetv2.onnx, 14 MB: inverted residuals, Relu6 written as Clip."""
    net = RandomNet()
    net.weight("zero", np.array(0))
    net.weight("six", np.array(6))
    x = conv_relu6(net, "input", "stem", (3, 32), 3, stride=2)
    channels, block = 32, 0
    for expansion, width, repeats, first_stride in INVERTED_RESIDUALS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = inverted_residual(net, x, f"block{block}", (channels, width), expansion, stride)
            channels, block = width, block + 1
    x = conv_relu6(net, x, "last", (channels, 1280), 1)
    net.pooled_classifier(x, 1280)
    return net.write(folder, "mobilenetv2")


def inverted_residual(net: RandomNet, x: str, name: str, channels: tuple[int, int], expansion: int, stride: int) -> str:
    """1x1 up, 3x3 depthwise, 1x1 down without activation; a shortcut where the shape stays."""
    into, out = channels
    hidden = into * expansion
    y = conv_relu6(net, x, f"{name}.expand", (into, hidden), 1) if expansion > 1 else x
    y = conv_relu6(net, y, f"{name}.depthwise", (hidden, hidden), 3, stride=stride, groups=hidden)
    stays = stride == 1 and into == out
    y = net.conv(y, f"{name}.project", (hidden, out), 1, gain=BRANCH_GAIN if stays else LINEAR_GAIN)
    return net.op("Add", [x, y], f"{name}.add") if stays else y


def conv_relu6(
    net: RandomNet, x: str, name: str, channels: tuple[int, int], kernel: int, *, stride: int = 1, groups: int = 1
) -> str:
    """A convolution, cut to 0..6."""
    y = net.conv(x, f"{name}.conv", channels, kernel, stride=stride, groups=groups, gain=RELU_GAIN)
    return net.op("Clip", [y, "zero", "six"], f"{name}.relu6")


# -- VGG-11 (Simonyan and Zisserman 2015) ---------------------------------------------------------


def build_vgg11(folder: Path) -> Path:
    """vgg11.onnx, 148 MB: eight 3x3 convolutions and five pools as in VGG-11, over narrower fully connected layers.

    The paper's two hidden layers have 4096 features and make a file of 531 MB; here they have 1024. The convolutions,
    more than 99 % of the multiplications then, are the paper's.
    """
    net = RandomNet()
    x, into = "input", 3
    for stage, widths in enumerate(((64,), (128,), (256, 256), (512, 512), (512, 512)), start=1):
        for layer, width in enumerate(widths, start=1):
            x = net.conv(x, f"conv{stage}_{layer}", (into, width), 3, gain=RELU_GAIN)
            x = net.op("Relu", [x], f"relu{stage}_{layer}")
            into = width
        x = net.op("MaxPool", [x], f"pool{stage}", kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Flatten", [x], "flat", axis=1)
    for name, features in (("fc6", (512 * 7 * 7, 1024)), ("fc7", (1024, 1024))):
        x = net.linear(x, name, features, gain=RELU_GAIN)
        x = net.op("Relu", [x], f"relu_{name}")
    net.linear(x, "logits", (1024, CLASSES), gain=LINEAR_GAIN)
    return net.write(folder, "vgg11")


NETS: dict[str, Callable[[Path], Path]] = {
    "resnet18": build_resnet18,
    "mobilenetv2": build_mobilenetv2,
    "vgg11": build_vgg11,
}
