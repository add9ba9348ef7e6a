#!/usr/bin/env bash
# Sets up the programs that the benchmarks compare with (pinned; about 6 GB) in a virtual
# environment outside the checkout, and prints its python.
#
#   tests/bench/peers.sh [DEST]     default ~/.cache/loadstone/peers
set -euo pipefail

dest=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/loadstone/peers}
want="torch==2.11.0 compressed-tensors==0.20.0 diffusers==0.42.1 transformers==5.17.0 safetensors==0.8.0 accelerate pillow numpy"
if [ "$(cat "$dest/.stamp" 2>/dev/null)" != "$want" ]; then
  python3 -m venv "$dest" >&2
  # shellcheck disable=SC2086  # a list of requirements
  "$dest/bin/pip" install --quiet $want >&2
  printf '%s' "$want" >"$dest/.stamp"
fi
echo "$dest/bin/python"
