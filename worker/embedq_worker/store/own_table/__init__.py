"""Somebody's own table, of which a collection writes the vectors."""
