"""Calling: waiting texts of one model become batches, batches become calls, answers become vectors."""
