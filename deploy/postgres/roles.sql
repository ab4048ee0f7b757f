-- Run once, by the image of Postgres when it makes its cluster: a database, who owns it, and what the servers log in as.
-- The owner's password is for migrations and the first administrator; servers cannot change or delete the log.
-- A password that cannot be read leaves its account without one, and nobody gets in.
\set ON_ERROR_STOP on
\set owner_password `cat "${SECRETS:-/run/secrets}/owner-password"`
\set server_password `cat "${SECRETS:-/run/secrets}/server-password"`

CREATE ROLE decisiongraph_runtime NOLOGIN;
CREATE ROLE decisiongraph_owner LOGIN PASSWORD :'owner_password' IN ROLE decisiongraph_runtime;
CREATE ROLE decisiongraph_server LOGIN PASSWORD :'server_password' IN ROLE decisiongraph_runtime;
CREATE DATABASE decisiongraph OWNER decisiongraph_owner;
REVOKE CONNECT, TEMPORARY ON DATABASE decisiongraph FROM PUBLIC;
GRANT CONNECT ON DATABASE decisiongraph TO decisiongraph_server;
