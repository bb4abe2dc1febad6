"""Headers, decoding, resizing and geometry of pictures."""
