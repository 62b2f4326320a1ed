"""One module per format: what is recognised, and how it becomes a data set."""
