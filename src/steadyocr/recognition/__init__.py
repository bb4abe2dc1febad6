"""Reading text lines: crops in, strings out."""
