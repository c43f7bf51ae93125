"""Monitoring: health for the probes, and readings for the metrics."""
