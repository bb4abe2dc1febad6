"""All settings: one tree, read once, frozen, unknown keys refused.

Sources, strongest first: arguments of the command line, environment (``STEADYOCR_QUEUE__MAX_SIZE=32``), the TOML file
(``STEADYOCR_CONFIG`` or ``steadyocr.toml`` in the data folder), defaults.
"""

from steadyocr.settings.load import ENV_PREFIX, Origins, load_alert_settings, load_settings
from steadyocr.settings.tree import Settings

__all__ = ["ENV_PREFIX", "Origins", "Settings", "load_alert_settings", "load_settings"]
