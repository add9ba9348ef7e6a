#!/usr/bin/env bash
# loadstone against safetensors.torch and plain preads: sets up the peer, then load_vs_safetensors.py.
#
#   tests/bench/load_vs_safetensors.sh [--gigabytes 4] [--rounds 5] [--build build/release] [--json FILE]
set -euo pipefail
here=$(dirname "$0")
python=$("$here/peers.sh")
exec "$python" "$here/load_vs_safetensors.py" "$@"
