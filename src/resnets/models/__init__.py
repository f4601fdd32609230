"""Residual networks: blocks, networks, the rows that name them, and weights that go into them."""

from resnets.models.resnet import BasicBlock, Bottleneck, ResNet, ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from resnets.models.zoo import Network, create_model, list_models

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "Network",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "create_model",
    "list_models",
]
