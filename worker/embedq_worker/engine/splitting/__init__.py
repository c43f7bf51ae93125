"""Splitting: what of a long text is embedded, as chunks or cut off, in a thread of its own."""
