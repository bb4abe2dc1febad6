"""Admission, engine processes and their supervision."""
