"""Schemathesis against a running Envoy: `python -m tests.fuzz`, started by tests/e2e/test_openapi_fuzz.py.

A process of its own, because importing schemathesis changes Hypothesis for every other test of the process.
"""
