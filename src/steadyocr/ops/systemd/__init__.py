"""The service under systemd: units fitted to this machine, and putting them in place."""
