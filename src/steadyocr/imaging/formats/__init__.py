"""Header parsers, one module per picture format; pure Python, so that the front process may use them."""
