"""Every SQL statement of the service, over asyncpg. Knows the domain's values and nothing above it."""
