#!/usr/bin/env bash
# Run what compares this library with its rivals: the tests marked `peers`, then every benchmarks/peers*.py.
set -euo pipefail
cd "$(dirname "$0")/.."
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
echo "==> tests marked peers"
pytest -m peers
shopt -s nullglob
for script in benchmarks/peers*.py; do
    echo "==> $script"
    python "$script"
done
