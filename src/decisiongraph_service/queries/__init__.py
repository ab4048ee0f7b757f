"""Answering questions about the log and its projections."""
