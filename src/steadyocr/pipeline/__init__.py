"""Bytes in, page out."""
