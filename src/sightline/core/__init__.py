"""Contracts: data set tables, frames, preprocessing and geometry, results, run provenance, errors, configuration."""
