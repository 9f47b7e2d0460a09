"""`python -m onnxcam`: the console script by another name."""

import sys

from onnxcam.cli import main

sys.exit(main())
