"""The indexes of a collection: built, rebuilt, looked at, measured."""
