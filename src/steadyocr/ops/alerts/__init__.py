"""Alerts without a monitoring stack: rules over events, one message for each incident, delivery that gives up late."""
