"""The cache of vectors as the engine uses it: asked before a call, filled after one."""
