#!/usr/bin/env bash
# Runs the OpenAI and Anthropic Python clients against the gateway over a scripted service.
# The clients are installed into a virtual environment under the cache folder (or $CORTENSOR_VENV).
set -euo pipefail
cd "$(dirname "$0")"
venv="${CORTENSOR_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/cortensor/venv-gateway}"
if ! cmp -s requirements.txt "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$venv/installed.txt"
fi
cargo build --quiet -p cortensor-gateway --example scripted
exec "$venv/bin/python" -m unittest -v test_clients.py
