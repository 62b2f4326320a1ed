"""The one pass over the files of a data set, and what it notes of each picture and mask."""
