"""A collection's move from one model to another, while it is read and written."""
