#!/usr/bin/env bash
# Makes the secrets of compose.yaml in deploy/secrets: passwords, the addresses of the database with them, and a
# certificate for HOST that it signs itself (replace edge.crt and edge.key with one that callers trust).
#   deploy/make_secrets.sh [HOST]
# What is there stays as it is.
set -euo pipefail
umask 077
host=${1:-localhost}
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

keep() { # keep FILE COMMAND…: write what the command prints to the file, unless it is there
  local file=$1
  shift
  if [ -e "$file" ]; then return; fi
  "$@" >"$file.new"
  # Containers read it by accounts of their own; on this machine nobody else can enter the folder.
  chmod 0444 "$file.new"
  mv "$file.new" "$file"
}

for account in superuser owner server grafana; do
  keep "$account-password" openssl rand -hex 24
done
for account in owner server; do
  keep "$account-url" printf 'postgresql://decisiongraph_%s:%s@postgres:5432/decisiongraph\n' \
    "$account" "$(cat "$account-password")"
done
keep edge.key openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1
keep edge.crt openssl req -x509 -key edge.key -days 90 -subj "/CN=$host" -addext "subjectAltName=DNS:$host"
echo "in $PWD"
