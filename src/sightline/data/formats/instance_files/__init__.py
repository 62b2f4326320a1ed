"""One mask file for each object, and maps of object ids."""
