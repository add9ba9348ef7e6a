#!/usr/bin/env bash
# Builds the libFuzzer targets with clang and runs each one from its corpus.
#
#   tests/fuzz/run.sh [SECONDS [TARGET…]]     default 60 s each, all targets
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
  for source in tests/fuzz/*.cpp; do targets+=("$(basename "$source" .cpp)"); done
fi
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$(nproc)" --target "${targets[@]/#/fuzz_}"

for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus"
  seeds=tests/fuzz/corpus/$target
  [ -d "$seeds" ] || seeds=
  log=build/fuzz/$target.log
  # A finding ends the run with a non-zero status and leaves its input beside the log.
  if ! build/fuzz/bin/fuzz_"$target" -max_total_time="$seconds" -max_len=65536 -timeout=25 \
      -rss_limit_mb=2048 -artifact_prefix="build/fuzz/$target-" -print_final_stats=1 \
      "$corpus" $seeds >"$log" 2>&1; then
    tail -40 "$log" >&2
    echo "fuzz target $target found something: see $log" >&2
    exit 1
  fi
  awk -v name="$target" '/stat::number_of_executed_units/ {print name ": " $2 " inputs"}' "$log"
done
