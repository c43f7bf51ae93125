"""Where items are loaded from: files, directories and queries, each read once, in bounded memory.

``options`` has their command line, ``opening`` picks the reader, ``checkpoint`` keeps how far a load is.
"""
