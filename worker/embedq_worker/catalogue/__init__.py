"""The embedding models that embedq knows, and what each accepts, gives and costs."""

from __future__ import annotations

from embedq_worker.catalogue.loading import Catalogue, load_catalogue
from embedq_worker.catalogue.model import DimensionRange, Family, Model, count_characters

__all__ = ["Catalogue", "DimensionRange", "Family", "Model", "count_characters", "load_catalogue"]
