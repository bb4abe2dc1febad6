"""steadyocr: a self-hosted OCR service that stays up."""

from steadyocr._version import __version__

__all__ = ["__version__"]
