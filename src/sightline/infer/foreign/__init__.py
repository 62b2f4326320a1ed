"""Graphs made elsewhere: how their outputs are recognised, tried on labelled images, and read from then on."""
