"""Wiring, settings and processes: what the service is made of and how it starts and stops."""
