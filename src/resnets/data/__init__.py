"""Images and labels: where they come from, what is wrong with them, how they are split, read and
varied."""
