"""Checkpoints of other tools: read as data, nothing of them run, and mapped onto the networks here."""
