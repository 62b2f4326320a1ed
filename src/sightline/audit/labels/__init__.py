"""Checks of labels: boxes, outlines, classes, sizes, conflicts, likely errors."""
