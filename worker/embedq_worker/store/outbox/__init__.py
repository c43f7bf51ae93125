"""The outbox and what fills it from watched tables, as the engine and commands see them."""
