"""What a sample, a prediction and the outputs of a network are, for each kind of task. NumPy and
Pillow only.

A kind is a row of `KINDS`; whatever reads data, runs a file or writes a table takes that row and
names no task.
"""

from resnets.kinds.boxes import BOXES
from resnets.kinds.classes import CLASSES
from resnets.kinds.clips import CLIPS
from resnets.kinds.kind import Kind
from resnets.kinds.labels import LABELS
from resnets.kinds.mask import MASK

KINDS: dict[str, Kind] = {kind.name: kind for kind in (CLASSES, LABELS, BOXES, MASK, CLIPS)}

__all__ = ["KINDS", "Kind"]
