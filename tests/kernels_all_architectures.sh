#!/usr/bin/env bash
# Compiles every kernel for every GPU that the plugins are written for, and prints what the
# assembler says of each file: kernels, the most registers of one, bytes spilled and of stack. What
# only compiles is not claimed to run.
#   tests/kernels_all_architectures.sh [ARCHITECTURE…]     default: 80 90a 100a
# Status 0: all compiled; 3: something failed; without nvcc it is skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
architectures=${*:-80 90a 100a}
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "SKIPPED: no nvcc"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

echo "$(date +%F), $("$nvcc" --version | grep -o 'release.*')"
printf '%-36s %6s %8s %10s %8s %6s\n' file sm kernels registers spilled stack
for source in $(find core plugins model_adapters -name '*.cu' | sort); do
  for architecture in $architectures; do
    # The options of the folders' CMakeLists.txt: the plugins' arithmetic is never fused.
    fused=true
    case $source in plugins/*) fused=false ;; esac
    if ! "$nvcc" -std=c++20 -O3 --fmad=$fused -Xptxas -v -Isdk/include -Iplugins -Icore -cubin \
      -gencode "arch=compute_$architecture,code=sm_$architecture" \
      -o "$work/cubin" "$source" >"$work/log" 2>&1; then
      printf '%-36s %6s FAILED\n' "$(basename "$source")" "$architecture"
      grep -m 5 error "$work/log"
      failed=3
      continue
    fi
    awk -v name="$(basename "$source")" -v sm="$architecture" '
      /Used [0-9]+ registers/ {
        kernels++
        match($0, /Used [0-9]+/)
        used = substr($0, RSTART + 5, RLENGTH - 5) + 0
        if (used > most) most = used
      }
      /bytes stack frame/ {stack += $1; spilled += $5 + $9}
      END {printf "%-36s %6s %8d %10d %8d %6d\n", name, sm, kernels, most, spilled, stack}
    ' "$work/log"
  done
done
exit $failed
