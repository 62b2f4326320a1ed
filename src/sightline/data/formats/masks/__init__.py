"""Mask folders: one mask of class ids per image."""
