"""NAME.safetensors: weights to train on, with all that is needed to use them in one JSON string. No
pickle is ever executed.

A model file says how its network is built, what its task is, the names of its classes, its
preprocessing, how it was trained, what was measured, and a digest of all of it, so that a truncated
or altered file is refused.
"""

from resnets.modelfile.description import Description, read_description
from resnets.modelfile.model import Model, load_model
from resnets.modelfile.networks import build_network, describe_network
from resnets.modelfile.storage import KEY, best_weights, is_model_file, read_model, write_model

__all__ = [
    "KEY",
    "Description",
    "Model",
    "best_weights",
    "build_network",
    "describe_network",
    "is_model_file",
    "load_model",
    "read_description",
    "read_model",
    "write_model",
]
