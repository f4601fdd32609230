"""PyTorch's transfer learning tutorial ("Finetuning the ConvNet"): SGD at 0.001 with momentum 0.9,
batches of 4, the rate divided by ten after 7 of 25 epochs and again after 14 and 21; random crops
and flips. https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from classes import Images, finish, loader, network, predicting, train_epochs
from common import read_task
from torch import Tensor
from torchvision import transforms

EPOCHS, STEP = 25, 7
NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TRAIN = transforms.Compose(
    [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        NORMALISE,
    ]
)
VAL = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), NORMALISE]
)

if __name__ == "__main__":
    folder, task = read_task()
    net = network(task)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)

    def step(images: Tensor, labels: Tensor, done: float) -> None:
        """One step."""
        for group in optimizer.param_groups:
            group["lr"] = 0.001 * 0.1 ** int(done * EPOCHS / STEP)
        net.train()
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    train_epochs(task, step, loader(Images(task, "train", TRAIN), 4, shuffle=True))
    finish(folder, task, predicting(net, VAL))
