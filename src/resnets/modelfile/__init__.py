"""NAME.safetensors: weights to train on, with all that is needed to use them in one JSON string. No
pickle is ever executed.

A model file says how its network is built, what its task is, the names of its classes, its
preprocessing, how it was trained, what was measured, and a digest of all of it, so that a truncated
or altered file is refused.
"""

from resnets.modelfile.description import Description, read_description
from resnets.modelfile.model import Model, describe_task, load_model, make_task
from resnets.modelfile.networks import build_network, describe_network
from resnets.modelfile.storage import KEY, best_weights, is_model_file, read_model, write_model

__all__ = [
    "KEY",
    "Description",
    "Model",
    "best_weights",
    "build_network",
    "describe_network",
    "describe_task",
    "is_model_file",
    "load_model",
    "make_task",
    "read_description",
    "read_model",
    "write_model",
]
