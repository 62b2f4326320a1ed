"""Outputs of graphs made elsewhere, read as the metadata of an adopted file says."""
