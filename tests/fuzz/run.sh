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

# A finding ends the run with a non-zero status and leaves its input beside the log.
fuzz() {
  local target=$1 corpus=build/fuzz/corpus/$1 seeds=tests/fuzz/corpus/$1 log=build/fuzz/$1.log
  mkdir -p "$corpus"
  [ -d "$seeds" ] || seeds=
  if ! build/fuzz/bin/fuzz_"$target" -max_total_time="$seconds" -max_len=65536 -timeout=25 \
      -rss_limit_mb=2048 -artifact_prefix="build/fuzz/$target-" -print_final_stats=1 \
      "$corpus" $seeds >"$log" 2>&1; then
    tail -40 "$log" >&2
    echo "fuzz target $target found something: see $log" >&2
    return 1
  fi
  awk -v name="$target" '/stat::number_of_executed_units/ {print name ": " $2 " inputs"}' "$log"
}

# One a processor: each has its seconds to itself.
together=$(nproc)
failed=0
for ((first = 0; first < ${#targets[@]}; first += together)); do
  running=()
  for target in "${targets[@]:first:together}"; do
    fuzz "$target" &
    running+=($!)
  done
  for one in "${running[@]}"; do wait "$one" || failed=1; done
done
exit $failed
