"""What the tests that fuzz share: strategies and how much they try (`effort`), and schemathesis as a program.

`python -m tests.fuzz` runs schemathesis against a running Envoy, started by tests/e2e/test_openapi_fuzz.py. It is a
process of its own, because importing schemathesis changes Hypothesis for every other test of the process; of this
package only `__main__`, `checks` and `schema` import it.
"""
