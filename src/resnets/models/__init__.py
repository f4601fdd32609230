"""Residual networks: blocks, networks, the rows that name them, and weights that go into them."""

from resnets.models.densenet import DenseNet
from resnets.models.features import Features
from resnets.models.inflation import inflate
from resnets.models.resnet import BasicBlock, Bottleneck, ResNet
from resnets.models.vit import VisionTransformer
from resnets.models.zoo import (
    Network,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    create_model,
    list_models,
)

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "DenseNet",
    "Features",
    "Network",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "VisionTransformer",
    "create_model",
    "inflate",
    "list_models",
]
