#!/usr/bin/env bash
# Render the documentation into _docs; where Quarto is missing, check the pages as far as that goes without it.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "==> checking the pages"
python tools/docs_check.py "${WORKERS:-2}"
if command -v quarto >/dev/null; then
    echo "==> rendering with Quarto $(quarto --version)"
    touch README.md         # nbdev would write an older README.md anew; tools/readme.py does that here
    nbdev_docs --n_workers "${WORKERS:-2}"
    echo "the site is in _docs/; open _docs/index.html"
else
    echo "rendering skipped: quarto is not on PATH (https://quarto.org/docs/get-started; then run make docs again)"
fi
