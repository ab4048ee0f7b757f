"""Appending events: checks, decision and commit."""
