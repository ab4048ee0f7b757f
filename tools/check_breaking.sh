#!/usr/bin/env bash
# Fails if the contract breaks callers of the contract at a git ref. Without a ref: the newest commit on this branch that
# is older than four hours, which is the main that stood before the work at hand.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${1:-$(git rev-list -1 --before='4 hours ago' HEAD)}
if [ -z "$base" ] || ! git cat-file -e "$base:proto" 2>/dev/null; then
  echo "buf breaking: no earlier contract to compare with"
  exit 0
fi
echo "buf breaking: comparing with $(git log -1 --format='%h %s' "$base")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive "$base" proto buf.yaml | tar -x -C "$work"
cp -r third_party "$work/"
.venv/bin/buf breaking --against "$work"
