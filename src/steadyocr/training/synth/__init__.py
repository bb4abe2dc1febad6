"""The renderer of training pictures: seeded, multi-process, with exact quads."""
