"""Predictions in the files of other tools."""
