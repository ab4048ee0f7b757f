"""The DecisionGraph server: an append-only log of decisions, its projections, and the queries over them.

Packages import in one direction only:
domain <- storage <- (ingestion, projection, queries, access) <- rpc <- runtime <- cli.
"""
