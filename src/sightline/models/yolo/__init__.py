"""The YOLO family out of small parts: a version is a table of blocks, and a size is a scale of it."""
