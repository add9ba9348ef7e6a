#!/usr/bin/env bash
# loadstone against diffusers on the embedded model: sets up the peer, then generate_vs_diffusers.py.
set -euo pipefail
here=$(dirname "$0")
python=$("$here/peers.sh")
exec "$python" "$here/generate_vs_diffusers.py" "$@"
