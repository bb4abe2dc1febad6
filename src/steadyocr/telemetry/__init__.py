"""Logging, metrics and alerts."""
