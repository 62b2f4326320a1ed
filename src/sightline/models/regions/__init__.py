"""Detectors that judge regions of the image one by one: what they share, and the classics among them."""
