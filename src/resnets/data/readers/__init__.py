"""What reads one layout of data on the disk, a row each. No image is decoded, only masks are;
nothing is copied or moved.

To add a layout: one module with its `Reader`, and its row here.
"""

from resnets.data.readers.box_table import BOX_TABLE
from resnets.data.readers.clips import CLIPS
from resnets.data.readers.coco import COCO
from resnets.data.readers.folders import FOLDERS
from resnets.data.readers.masks import MASKS
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.table import TABLE
from resnets.data.readers.voc import VOC
from resnets.data.readers.yolo import YOLO

# Folders come last: they take what no other reader does.
READERS: dict[str, Reader] = {
    reader.name: reader for reader in (TABLE, BOX_TABLE, VOC, COCO, YOLO, MASKS, CLIPS, FOLDERS)
}

__all__ = ["READERS", "Found", "Reader", "Source"]
