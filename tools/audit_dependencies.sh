#!/usr/bin/env bash
# Lists what the service is made of (SBOM, CycloneDX) and looks for known vulnerabilities in it.
#
# Fails when one is known. A package index without vulnerability data cannot tell; that is said, and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p .run
.venv/bin/uv export --quiet --frozen --all-extras --no-default-groups --format cyclonedx1.5 \
  --preview-features sbom-export --output-file .run/sbom.json >/dev/null
.venv/bin/uv export --quiet --frozen --all-extras --no-default-groups --no-emit-project \
  --format requirements.txt --output-file .run/requirements.txt >/dev/null
echo "written to .run/sbom.json"

audit=(.venv/bin/uv tool run --quiet pip-audit@2.10.1 --disable-pip --require-hashes --progress-spinner off)
report=$(timeout 120 "${audit[@]}" -r .run/requirements.txt 2>&1) && found=0 || found=$?
unknown=$(grep -c "could not be audited" <<<"$report" || true)
packages=$(grep -cE '^[A-Za-z0-9_.-]+==' .run/requirements.txt)
if [ "$found" -eq 0 ] && [ "$unknown" -eq 0 ]; then
  echo "no known vulnerability in $packages packages"
elif [ "$found" -eq 0 ]; then
  echo "no known vulnerability; this package index has no data on $unknown of $packages packages"
elif grep -q "known vulnerabilit" <<<"$report"; then
  echo "$report"
  exit 1
else
  echo "the audit could not be made here:"
  tail -3 <<<"$report"
fi
