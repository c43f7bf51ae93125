"""Dead letters: buried, listed, replayed."""
