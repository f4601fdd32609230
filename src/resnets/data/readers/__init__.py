"""What reads one layout of data on the disk, a row each. Nothing is decoded, copied or moved.

To add a layout: one module with its `Reader`, and its row here.
"""

from resnets.data.readers.clips import CLIPS
from resnets.data.readers.folders import FOLDERS
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.table import TABLE

# Folders come last: they take what no other reader does.
READERS: dict[str, Reader] = {reader.name: reader for reader in (TABLE, CLIPS, FOLDERS)}

__all__ = ["READERS", "Found", "Reader", "Source"]
