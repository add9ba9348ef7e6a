#!/usr/bin/env bash
# Installs a build, moves the install away, and builds and runs examples/embed and the installed
# program against it from outside.
#
#   tests/embed/run.sh BUILD MODEL
#
# Exit: 0 fine, 77 no model there.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
model=$2
if [ ! -d "$model" ]; then
  echo "skipped: no folder $model"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/install.log"
mkdir "$work/elsewhere"
mv "$work/first" "$work/elsewhere/moved" # the package finds itself
prefix=$work/elsewhere/moved

"$prefix/bin/loadstone" plan "$model" --quantization fp8 | grep -q fp8
"$prefix/bin/loadstone" plugins list | grep -qF "$prefix"

cmake -S "$source/examples/embed" -B "$work/embed" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_BUILD_TYPE=Release >"$work/configure.log"
cmake --build "$work/embed" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
"$work/embed/embed_load" "$model" | tee "$work/out"
grep -q '2 dimensions' "$work/out"
if [ -x "$work/embed/embed_draw" ]; then
  "$work/embed/embed_draw" "$model" "a cat" "$work/cat.png"
  test -s "$work/cat.png"
fi
if "$work/embed/embed_load" "$work/nowhere" 2>"$work/err"; then
  echo "a missing model was not refused"
  exit 1
fi
grep -q nowhere "$work/err"
echo "embedded fine"
