"""The client for asyncio. What `_sync` holds is made of this by `tools/make_blocking_client.py`."""
