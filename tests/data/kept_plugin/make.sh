#!/bin/sh
# Makes kept8.so from kept8.c and the header of this tree: small, stripped, needing libc alone.
# Only for a new major version of the interface (README.md).
#   tests/data/kept_plugin/make.sh [OUTPUT]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
${CC:-gcc} -std=c11 -Os -nostartfiles -fPIC -fvisibility=hidden -ffp-contract=off \
  -fno-asynchronous-unwind-tables -fno-ident -Wall -Wextra -Werror -I "$root/sdk/include" \
  -shared -s -Wl,-z,defs -Wl,-z,norelro -Wl,-z,noseparate-code -Wl,-z,max-page-size=4096 \
  -Wl,--build-id=none -Wl,--hash-style=gnu -Wl,--as-needed \
  -Wl,--version-script="$root/cmake/plugin.version" -o "${1:-$here/kept8.so}" "$here/kept8.c"
