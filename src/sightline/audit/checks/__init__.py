"""Checks of pictures, masks, names and sequences."""
