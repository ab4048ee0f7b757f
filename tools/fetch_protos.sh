#!/usr/bin/env bash
# Fills third_party/ with the protos that the contract imports. They are not committed.
#   google/api, google/rpc  from the installed googleapis-common-protos
#   buf/validate            from the Go module github.com/bufbuild/protovalidate
set -euo pipefail
cd "$(dirname "$0")/.."

protovalidate=github.com/bufbuild/protovalidate@v1.2.2
python=.venv/bin/python

google=$("$python" -c 'import google.api.annotations_pb2 as m, pathlib; print(pathlib.Path(m.__file__).parents[1])')
rm -rf third_party
mkdir -p third_party/google/api third_party/google/rpc third_party/buf/validate
cp "$google"/api/{annotations,http,httpbody}.proto third_party/google/api/
cp "$google"/rpc/{status,error_details,code}.proto third_party/google/rpc/

command -v go >/dev/null || { echo "make check and make generate need Go (https://go.dev); running and testing do not." >&2; exit 1; }
module=$(cd / && go mod download -json "$protovalidate" | "$OLDPWD/$python" -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
install -m 0644 "$module"/proto/protovalidate/buf/validate/validate.proto third_party/buf/validate/
