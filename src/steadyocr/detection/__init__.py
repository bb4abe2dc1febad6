"""Finding text lines: array in, quads out."""
