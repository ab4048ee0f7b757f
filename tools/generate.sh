#!/usr/bin/env bash
# Writes generated/ from proto/: Python stubs, Envoy's descriptor set, the OpenAPI document. Needs Go.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/fetch_protos.sh
rm -rf generated/python/decisiongraph generated/python/buf
# The library warns of imports that only options use; they are used.
.venv/bin/buf generate 2> >(grep -v 'Import .* is unused' >&2 || true)
.venv/bin/python -m grpc_tools.protoc -Ithird_party --python_out=generated/python --pyi_out=generated/python \
  third_party/buf/validate/validate.proto
.venv/bin/buf build --as-file-descriptor-set --output generated/decisiongraph.binpb
.venv/bin/python tools/openapi_document.py --raw third_party/openapi.raw.yaml \
  --descriptors generated/decisiongraph.binpb --examples tools/openapi/examples.yaml --out generated/openapi.yaml
