#!/usr/bin/env bash
# Builds ggml as a shared library from the sources in PyPI's llama-cpp-python (pinned), optimized for
# this machine, outside the checkout, and prints the library's path.
#
#   tests/bench/ggml.sh [DEST]     default ~/.cache/loadstone/ggml
set -euo pipefail

version=0.3.36
dest=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/loadstone/ggml}
library=$dest/$version/libggml-base.so
if [ ! -f "$library" ]; then
  mkdir -p "$dest/$version"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  pip download --quiet --no-deps --no-binary llama-cpp-python -d "$work" \
    "llama-cpp-python==$version" >&2
  tar -xzf "$work"/*.tar.gz -C "$work" --strip-components=3 --wildcards '*/vendor/llama.cpp/ggml/*'
  touch "$work/ggml/ggml.pc.in"  # the archive leaves it out
  cmake -S "$work/ggml" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_C_FLAGS_RELEASE="-O3 -march=native" -DCMAKE_CXX_FLAGS_RELEASE="-O3 -march=native" \
    -DBUILD_SHARED_LIBS=ON -DGGML_CPU=OFF -DGGML_OPENMP=OFF \
    -DGGML_BUILD_EXAMPLES=OFF -DGGML_BUILD_TESTS=OFF >&2
  cmake --build "$work/build" --target ggml-base >&2
  install "$(find "$work/build" -name 'libggml-base.so*' -type f | head -1)" "$library"
fi
echo "$library"
