#!/usr/bin/env bash
# Everything from a bare machine to a tested build: packages, LibTorch, build, tests; then core and
# plugins again under the sanitizers, and a short run of the fuzz targets.
#
#   tests/run.sh [--quick]
#
#   --quick   the release build and its tests only
set -euo pipefail
cd "$(dirname "$0")/.."

quick=0
case ${1:-} in
  '') ;;
  --quick) quick=1 ;;
  -h|--help) sed -n '2,7p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
  *) echo "run.sh: unknown option: found \"$1\", expected --quick" >&2; exit 2 ;;
esac

began=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - began)); }
jobs=$(nproc)

step "packages"
cmake/install-packages.sh --tests
step "Python packages that read what we write"
tests/python_packages.sh >/dev/null
step "LibTorch 2.11.0"
cmake/get-libtorch.sh

step "release: build"
cmake --preset release -DLOADSTONE_TESTS=ON
cmake --build --preset release -j "$jobs"
step "release: tests"
ctest --test-dir build/release --output-on-failure -j "$jobs"
if [ $quick = 1 ]; then exit 0; fi

# All that is free of LibTorch.
step "sanitizers: build"
cmake --preset asan
cmake --build --preset asan -j "$jobs"
step "sanitizers: tests"
# libsimdjson and libyaml-cpp come uninstrumented from the system: container checks would mix.
ASAN_OPTIONS=detect_stack_use_after_return=1:detect_container_overflow=0 \
  ctest --test-dir build/asan --output-on-failure -j "$jobs"

step "fuzz: GGUF for ${LOADSTONE_FUZZ_SECONDS:-60} s each, the others for ${LOADSTONE_FUZZ_SECONDS:-10} s"
tests/fuzz/run.sh "${LOADSTONE_FUZZ_SECONDS:-60}" gguf ggml_blocks gguf_layers
tests/fuzz/run.sh "${LOADSTONE_FUZZ_SECONDS:-10}" safetensors_header shard_index model_index \
  quantization_config rule_yaml

step "all passed"
