"""The settings of a run. Each is written once, here: the flags of `resnets train`, its help, the
keywords of `resnets.train`, the check of values and docs/settings.md are made from these fields.
Nothing here needs torch or NumPy, so that help is there at once."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from resnets.ranges import parse_range
from resnets.settings import check_values, setting

DATA, NETWORK, TRAINING, OUTPUT = "Data", "Network", "Training", "Output"
OPTIMIZERS = (  # rows of `optimizers.OPTIMIZERS`, which needs torch
    *("sgd", "adamw", "adam", "nadam", "radam", "rmsprop", "adagrad", "adafactor", "lamb"),
)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that `train` can be told. What is None is decided by `recipes.decide` and printed
    with its reason. `resnets.settings.about(TrainSettings)` has a sentence about each field.
    """

    data: str = setting(
        "Images to train on: a folder with one folder of images per class, the same below train/,"
        " val/ and test/, a CSV or TSV table, or the name of a torchvision data set, which is then"
        " downloaded.",
        DATA,
    )
    model: str | None = setting(
        'Network: a name with or without changes ("resnet50", "resnet50 shortcut=none"), timm:NAME'
        " for any other network of timm, or FILE.py:FUNCTION.",
        NETWORK,
        None,
        open="resnet18; resnet20 if the images are 64 pixels or smaller, or the minutes few for"
        " training from scratch",
        flags=("--model", "-m"),
    )
    _: KW_ONLY
    weights: str = setting(
        "Weights to start from: auto (ImageNet weights of torchvision, downloaded if needed), none"
        " (from scratch), a file, torchvision:TAG or timm:NAME.TAG; given keeps the weights of a"
        " module passed from Python.",
        NETWORK,
        "auto",
    )
    task: str | None = setting(
        "What is learnt of an image: classes (one label for each), labels (any number of them),"
        " boxes (around things) or mask (a class for each pixel); or of a video: clips (one label"
        " for each).",
        DATA,
        None,
        open="what the data say",
    )
    format: str | None = setting(
        "How the data are laid out: folders (one per class), table or box_table (CSV or TSV), voc,"
        " coco, yolo, masks (beside images), or clips (videos or folders of frames, in a folder per"
        " class).",
        DATA,
        None,
        open="what the data look like",
    )
    size: int | None = setting(
        "Side of the square input.",
        DATA,
        None,
        unit="pixels",
        between=(8, 4096),
        open="the size the weights were trained with, or less if few epochs fit into the minutes;"
        " from scratch 128, or less for small images or few minutes; for clips 112; for boxes and"
        " masks the longer side is meant, 320 and 240, or up to 640 where boxes are small",
        flags=("--size", "--img-size"),
    )
    frames: int | None = setting(
        "Of videos: images of a clip, at evenly spaced times.",
        DATA,
        None,
        unit="images",
        between=(1, 1024),
        open="8",
    )
    seconds: float | None = setting(
        "Of videos: length of the window that a clip is from; longer videos are several windows.",
        DATA,
        None,
        unit="seconds",
        between=(0.01, 3600),
        open="the median length of the videos, at most 4",
    )
    channels: int = setting(
        "Channels of the input: 3 for colour, 1 for grayscale.", DATA, 3, choices=(1, 3)
    )
    bits: int = setting(
        "Bits of a pixel value: 8, or 16 to keep the full depth of grayscale images.",
        DATA,
        8,
        choices=(8, 16),
    )
    range: str = setting(
        "Of images with more than 8 bits per channel, the values that become black and white: auto"
        " (measured over the training data), or LOW-HIGH (0-1, 0-4095, -1000:3000).",
        DATA,
        "auto",
    )
    fit: str | None = setting(
        "How an image is made square: cut out its centre, pad it, or stretch it.",
        DATA,
        None,
        choices=("crop", "pad", "stretch"),
        open="crop; pad if most images are longer than 1.6 : 1",
    )
    recipe: str | None = setting(
        "Recipe by name, whose values are taken where no option is given: probe (stop after the"
        " linear probe) or that of a paper; list explains them.",
        TRAINING,
        None,
        open="that of the task and the weights",
    )
    epochs: float | None = setting(
        "Passes over the training images; a fraction is allowed, and 0 stops after the linear"
        " probe.",
        TRAINING,
        None,
        between=(0, 1e6),
        open="5 when fine-tuning, 30 from scratch",
        flags=("--epochs", "-e"),
    )
    minutes: float | None = setting(
        "Train for as long as fits into this time, evaluation and export included; instead of"
        " epochs.",
        TRAINING,
        None,
        unit="minutes",
        between=(0.1, 1e6),
        open="no limit",
    )
    patience: int | None = setting(
        "Validations without a better one, after which the run ends before its last epoch.",
        TRAINING,
        None,
        unit="validations",
        between=(1, 1e6),
        open="none: to the end",
    )
    batch_size: int | None = setting(
        "Images per training step.",
        TRAINING,
        None,
        unit="images",
        between=(1, 65536),
        open="8 to 64, by the number of training images",
        flags=("--batch-size", "-b"),
    )
    optimizer: str | None = setting(
        "What moves the weights: a row of torch.optim, or lamb (You et al. 2020), for very large"
        " batches.",
        TRAINING,
        None,
        choices=OPTIMIZERS,
        open="adamw when fine-tuning, and for boxes and masks; else sgd",
    )
    accumulate: int = setting(
        "Batches per training step, their losses averaged: as batches so many times as large,"
        " without their memory; BatchNorm sees the small ones.",
        TRAINING,
        1,
        unit="batches",
        between=(1, 4096),
    )
    lr: float | None = setting(
        "Peak learning rate.",
        TRAINING,
        None,
        between=(1e-8, 100),
        open="per 64 images of a step, 0.002 (AdamW) when fine-tuning and 0.1 (SGD) from scratch",
    )
    find_lr: bool = setting(
        "Find the peak learning rate before the first step, instead of lr: a copy of the network is"
        " trained for up to 100 steps with a rising rate; that of the steepest fall of the loss is"
        " taken (Smith 2017).",
        TRAINING,
        False,
        choices=(False, True),
    )
    layer_decay: float = setting(
        "Factor of the learning rate from each part of the network to the one before it, from the"
        " classifier to the stem; 1: all alike.",
        TRAINING,
        1.0,
        between=(0.01, 1),
    )
    clip: float | None = setting(
        "Largest norm of the gradient of a step; a longer one is shortened to it.",
        TRAINING,
        None,
        between=(1e-6, 1e6),
        open="any; 10 for boxes",
    )
    warmup: float = setting(
        "Fraction of the training steps spent warming up the learning rate.",
        TRAINING,
        0.1,
        between=(0, 0.9),
    )
    schedule: str = setting(
        "Learning rate after the warm-up: cosine or linear (both down to 0), steps (times gamma at"
        " each of the milestones) or constant.",
        TRAINING,
        "cosine",
        choices=("cosine", "linear", "steps", "constant"),
    )
    milestones: str = setting(
        "Where schedule=steps lowers the learning rate, as fractions of the run.",
        TRAINING,
        "0.5-0.75",
    )
    gamma: float = setting(
        "Factor of the learning rate at each of the milestones.",
        TRAINING,
        0.1,
        between=(0.001, 1),
    )
    momentum: float = setting(
        "Nesterov momentum of SGD, momentum of RMSprop, and first beta of the Adam family and"
        " LAMB.",
        TRAINING,
        0.9,
        between=(0, 0.9999),
    )
    weight_decay: float | None = setting(
        "Weight decay of convolutional and linear layers.",
        TRAINING,
        None,
        between=(0, 1),
        open="0.05 (AdamW) when fine-tuning, 0.0005 from scratch",
    )
    smoothing: float | None = setting(
        "Label smoothing.",
        TRAINING,
        None,
        between=(0, 0.9),
        open="0.1; 0 for small images from scratch",
    )
    calibrate: str = setting(
        "Calibration: none, or temperature (one factor, fitted on the validation images and folded"
        " into the last layer: the confidence of predictions changes, what is predicted does not).",
        TRAINING,
        "none",
        choices=("none", "temperature"),
    )
    balance: str = setting(
        "Classes of unequal size: none (as they are), weights (the loss of an image by the inverse"
        " frequency of its class), or sampler (each class is shown equally often). Validation stays"
        " as it is.",
        TRAINING,
        "none",
        choices=("none", "weights", "sampler"),
    )
    loss: str | None = setting(
        "What is minimised: cross_entropy (one of the classes), or bce (binary cross-entropy of"
        " each class for itself; Wightman et al. 2021).",
        TRAINING,
        None,
        choices=("cross_entropy", "bce"),
        open="cross_entropy; for labels bce; boxes and masks have losses of their own",
    )
    mixup: float = setting(
        "Mixes each image of a batch with another one, and what is true of them: alpha of the beta"
        " distribution of the shares (Zhang et al. 2018), 0.2 is usual; 0 turns it off.",
        TRAINING,
        0.0,
        between=(0, 100),
    )
    cutmix: float = setting(
        "Puts a rectangle of another image of the batch into each (Yun et al. 2019): alpha, 1 is"
        " usual; with mixup, each batch takes one of the two; 0 turns it off.",
        TRAINING,
        0.0,
        between=(0, 100),
    )
    dropout: float = setting(
        "Part of the features that are left out before the classifier, others in every step"
        " (Srivastava et al. 2014).",
        TRAINING,
        0.0,
        between=(0, 0.99),
    )
    stochastic_depth: float = setting(
        "Probability that a step leaves out the last residual block, for the others less, in"
        " proportion to their depth (Huang et al. 2016); as drop_path of the network.",
        NETWORK,
        0.0,
        between=(0, 0.99),
    )
    average: float = setting(
        "Horizon of the exponential moving average of the weights, as a fraction of the run; 0"
        " turns it off.",
        TRAINING,
        0.05,
        between=(0, 1),
    )
    norms: str | None = setting(
        "BatchNorm statistics: averaged during training (train), measured on up to 512 training"
        " images before each validation besides (measured), or frozen as they were loaded.",
        NETWORK,
        None,
        choices=("train", "measured", "frozen"),
        open="train; frozen when fine-tuning in batches below 16",
    )
    save_memory: bool = setting(
        "Compute what is inside of each block again in the backward pass instead of keeping it:"
        " less memory, more time, the same gradients.",
        TRAINING,
        False,
        choices=(False, True),
    )
    freeze: int = setting(
        "Parts of the network that stay as they are, norms included: 1 for the stem, 2 for the"
        " first stage too, and so on.",
        NETWORK,
        0,
        unit="parts",
        between=(0, 64),
    )
    precision: str | None = setting(
        "Numbers of training steps: bfloat16 (half as long, losses and weights stay in float32),"
        " float16 (the same for GPUs without bfloat16) or float32. The final evaluation and the"
        " export are always in float32.",
        TRAINING,
        None,
        choices=("float32", "bfloat16", "float16"),
        open="bfloat16 on a GPU, and on a CPU where a trial step is clearly faster in it; float32"
        " for small images from scratch",
    )
    crop: str | None = setting(
        "Random crop of training images: resized (any area and aspect ratio), jitter (any scale and"
        " position), shift (any position), or none.",
        TRAINING,
        None,
        choices=("resized", "jitter", "shift", "none"),
        open="resized; shift for small images, and if they are padded or stretched",
    )
    smallest: float | None = setting(
        "Smallest area of a resized or jittered crop, as a fraction of the image.",
        TRAINING,
        None,
        between=(0.01, 1),
        open="0.35 when fine-tuning, 0.25 from scratch",
    )
    flip: str | None = setting(
        "Random flips of training images: none, horizontal, or both horizontal and vertical.",
        TRAINING,
        None,
        choices=("none", "horizontal", "both"),
        open="horizontal; none for clips, where it may change the class",
    )
    augment: str = setting(
        "Changes of training images besides: colour (brightness, contrast, saturation, hue), rand"
        " (RandAugment: two operations of colour or shape, Cubuk et al. 2020), trivial"
        " (TrivialAugment: one, Müller and Hutter 2021), or none.",
        TRAINING,
        "none",
        choices=("none", "colour", "rand", "trivial"),
    )
    magnitude: int = setting(
        "How strong the operations of RandAugment are.",
        TRAINING,
        9,
        between=(0, 30),
    )
    erase: float = setting(
        "Probability that a random rectangle of a training image is erased (Zhong et al. 2020).",
        TRAINING,
        0.0,
        between=(0, 1),
    )
    group: str = setting(
        "What file names have in common where images belong together (frames of a video, slices of"
        " a patient), so that no split comes between them: folder (the one the file is in); first,"
        " second or last (the name up to that _, - or space); a regular expression; or auto (what"
        " the data say: the column group of a table).",
        DATA,
        "auto",
    )
    val_fraction: float = setting(
        "Fraction of the images held out for validation if the data have no validation split.",
        DATA,
        0.2,
        between=(0.01, 0.9),
    )
    seed: int = setting(
        "Random seed of the initial weights, the split, the order of images and the augmentation.",
        TRAINING,
        0,
        between=(0, 2**63 - 1),
    )
    log: str = setting(
        "Trackers that get each row of results.csv besides: tensorboard, mlflow, wandb, with commas"
        " between them; none sends nothing.",
        OUTPUT,
        "none",
    )
    device: str = setting(
        "Device to train on: auto (CUDA, else MPS, else the CPU), cpu, cuda, cuda:1 or mps.",
        TRAINING,
        "auto",
    )
    workers: int = setting(
        "Threads that decode images; 0 for one per CPU core.",
        DATA,
        0,
        unit="threads",
        between=(0, 1024),
        flags=("--workers", "-j"),
    )
    cache_gb: float | None = setting(
        "Memory for decoded images.",
        DATA,
        None,
        unit="GB",
        between=(0, 1e6),
        open="a quarter of the machine's memory",
    )

    def __post_init__(self) -> None:
        check_values(self)
        parse_range(self.range)
        if self.bits == 16 and self.channels == 3:
            raise ValueError("bits=16 needs channels=1: colour is kept at 8 bits")
        if self.bits == 16 and self.augment in ("rand", "trivial"):
            raise ValueError(f"augment={self.augment} is for 8 bits; with bits=16 choose colour")
        if self.norms == "measured" and self.freeze:
            raise ValueError(
                f"norms=measured with freeze={self.freeze}: what is frozen keeps its statistics;"
                " choose norms=train, or freeze=0"
            )
        parse_milestones(self.milestones)
        if self.epochs is not None and self.minutes:
            probe = " (recipe=probe means epochs=0)" if self.epochs == 0 else ""
            raise ValueError(f"epochs and minutes are both given; choose one{probe}")


def parse_milestones(text: str) -> tuple[float, ...]:
    """`"0.5-0.75"` to fractions of a run, in their order.

    Raises:
        ValueError: Others.
    """
    try:
        found = tuple(map(float, text.split("-")))
    except ValueError:
        found = ()
    if not found or not all(0 < one < 1 for one in found) or list(found) != sorted(set(found)):
        raise ValueError(
            f"milestones={text}: fractions of the run expected, each above the one before, such as"
            " 0.5-0.75"
        )
    return found
