"""From `NAME.onnx` and a folder of images to predictions. NumPy, Pillow and ONNX Runtime; PyTorch
is never imported.

for prediction in load("photos.onnx").predict("new/"):
    print(prediction.file, prediction.label, prediction.probability)
"""

from resnets.runtime.cascade import Cascade
from resnets.runtime.opening import load
from resnets.runtime.predictor import Predictor

__all__ = ["Cascade", "Predictor", "load"]
