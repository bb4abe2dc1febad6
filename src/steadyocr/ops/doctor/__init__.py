"""``steadyocr doctor``: what is wrong with this machine or configuration, and which settings suit it best."""
