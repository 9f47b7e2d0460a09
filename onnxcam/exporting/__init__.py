"""Files that carry their own explanation."""

from onnxcam.exporting.export import export, split

__all__ = ["export", "split"]
