"""A network looked at: in numbers, layer by layer, and as an image."""
