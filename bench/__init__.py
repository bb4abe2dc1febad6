"""Measurements against other software and over time; see docs/benchmarks.md."""
