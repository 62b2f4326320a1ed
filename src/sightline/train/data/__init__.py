"""The data a network learns from: images and labels at network size, cached, in batches."""
