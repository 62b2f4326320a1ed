"""JSON text walked byte by byte, for files too large to become Python objects: places, numbers, lines."""
