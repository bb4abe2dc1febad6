"""The web page, served as static files."""
