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
step "LibTorch 2.11.0"
cmake/get-libtorch.sh

step "release: build"
cmake --preset release -DLOADSTONE_TESTS=ON
cmake --build --preset release -j "$jobs"
step "release: tests"
ctest --test-dir build/release --output-on-failure -j "$jobs"
if [ $quick = 1 ]; then exit 0; fi

# The sanitizers cover core, codecs and plugins; whole-program cases and the conformance runs are
# the release build's.
step "sanitizers: build"
cmake --preset asan
sanitized=(base_test formats_test formats_oracle_test config_test graph_test graph_families_test
  plugin_test routing_test planner_test load_test loader_test load_truth_test compare_test
  compare_oracle_test tokenizer_test tokenizer_oracle_test scheduler_test plugin_common_test
  plugin_common_oracle_test ggml_test ggml_oracle_test int_packs_test int_packs_oracle_test
  fp8_test fp8_oracle_test int8_test int8_oracle_test mxfp8_test mxfp8_oracle_test mxfp4_test
  mxfp4_oracle_test gguf_test gguf_oracle_test autoround_test autoround_oracle_test)
cmake --build --preset asan -j "$jobs" --target "${sanitized[@]}"
step "sanitizers: tests"
pattern=$(IFS='|'; echo "^(${sanitized[*]})\$")
# libsimdjson and libyaml-cpp come uninstrumented from the system: container checks would mix.
ASAN_OPTIONS=detect_stack_use_after_return=1:detect_container_overflow=0 \
  ctest --test-dir build/asan --output-on-failure -j "$jobs" -R "$pattern"

step "fuzz: build and run each target for ${LOADSTONE_FUZZ_SECONDS:=10} s"
tests/fuzz/run.sh "$LOADSTONE_FUZZ_SECONDS"

step "all passed"
