#!/usr/bin/env bash
# Trains the bundled model from nothing: one virtual environment, one corpus, one GGUF file.
# Interrupted runs go on from their last checkpoint in build/.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --requirement requirements.txt
exec .venv/bin/python -m cortensor_tiny --out build/cortensor-tiny-q8_0.gguf "$@"
