"""Moving: what a collection that changes its model needs of the engine."""
