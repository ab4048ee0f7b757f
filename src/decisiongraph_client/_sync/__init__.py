"""The client that blocks, made of `_async` by `tools/make_blocking_client.py`."""
