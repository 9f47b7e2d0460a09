"""Photos in and pictures out: decode, preprocess with its inverse geometry, colour maps, overlay."""

from onnxcam.imaging.arrays import Photo, from_array
from onnxcam.imaging.colormaps import COLORMAPS, colormap
from onnxcam.imaging.decoding import MAX_PIXELS, decode
from onnxcam.imaging.geometry import Geometry, place
from onnxcam.imaging.localization import Box, boxes, largest_box
from onnxcam.imaging.names import named_preprocess, preprocess_names
from onnxcam.imaging.picture import is_ours, overlay, save_png
from onnxcam.imaging.preparing import Prepared, prepare
from onnxcam.imaging.recipe import Preprocess, Resize, load_preprocess, override
from onnxcam.imaging.text import printable

__all__ = [
    "COLORMAPS",
    "MAX_PIXELS",
    "Box",
    "Geometry",
    "Photo",
    "Prepared",
    "Preprocess",
    "Resize",
    "boxes",
    "colormap",
    "decode",
    "from_array",
    "is_ours",
    "largest_box",
    "load_preprocess",
    "named_preprocess",
    "overlay",
    "override",
    "place",
    "prepare",
    "preprocess_names",
    "printable",
    "save_png",
]
