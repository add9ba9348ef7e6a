#!/usr/bin/env bash
# Runs what tests/gpu/pack.sh bundled, on a machine with a GPU; prints a short table.
#   tests/gpu/run.sh [PACK] [STEP…]      (default: env unit emoji)
# Steps:
#   env        the GPU, the program, its plugins
#   unit       every test of the pack
#   emoji      the recorded pictures of the small model, float32 and bf16
#   quantized  the small model with each method on the GPU against itself on the CPU
#   half       bf16 and fp16 activations against float32
#   attention  16 pictures of the small model with e4m3 attention against native ones
#   place      components apart, on CPU and GPU
#   warm       warm pictures and their traces, kernels recorded and not
#   sanitize   every test and a picture by each method under compute-sanitizer's memcheck
#   kernels    the plugins' kernels against their twins and the layer oracle, then layer rates
#   load       loading a model of true width, beside a bare loop and other loaders
#   big        loading it, and steps of 1024x1024 with METHODS (default: null fp8 int8 fp8+attention,
#              e4m3 attention too), kernels recorded or not by GRAPHS (default: on)
#   decode     the decoder at its real size
#   sized      every component at its real size
# Models of true width are written into /dev/shm, BLOCKS of them (default 30: 20 GB).
# Status 0: all passed or skipped; 3: something failed. Without a GPU everything is skipped.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$(dirname "$0")/../.."
pack=$PWD/${1:-build/gpu-pack}
shift || true
steps=${*:-env unit emoji}
failed=0
say() { printf '%-34s %s\n' "$1" "$2"; }
has() { case " $steps " in *" $1 "*) return 0 ;; esac; return 1; }

if ! nvidia-smi -L >/dev/null 2>&1; then
  say "GPU tests" "SKIPPED: no GPU (nvidia-smi finds none)"
  exit 0
fi
# LibTorch and the CUDA libraries it was built with, as Python's torch brings them.
site=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
libs=$site/lib:$pack/lib
for folder in "$site"/../nvidia/*/lib; do libs=$libs:$folder; done
export LOADSTONE_GPU_PACK=$pack LOADSTONE_SHARED=$pack/shared LD_LIBRARY_PATH=$libs:${LD_LIBRARY_PATH:-}
loadstone=$pack/bin/loadstone
chmod -R go-w "$pack"
model=examples/models/emoji
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if has env; then
  say GPU "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1)"
  say loadstone "$("$loadstone" --version 2>&1 | tail -1)"
  if missing=$(ldd "$loadstone" | grep "not found"); then say libraries "FAILED: $missing"; exit 3; fi
  say plugins "$("$loadstone" plugins list 2>&1 | awk 'NR > 1 {printf "%s ", $1}')"
fi

if has unit; then
  for test in "$pack"/bin/*_test; do
    if "$test" >"$work/log" 2>&1; then
      say "$(basename "$test")" "$(tail -1 "$work/log")"
    else
      say "$(basename "$test")" FAILED
      tail -30 "$work/log"
      failed=3
    fi
  done
fi

# Calls that the tests provoke to fail (no memory, a refused capture) are not what is looked for.
if has sanitize; then
  memcheck=(timeout 200 compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9)
  for test in "$pack"/bin/*_test; do
    "${memcheck[@]}" "$test" >"$work/log" 2>&1 || { failed=3; grep -m 20 '=========' "$work/log"; }
    say "memcheck $(basename "$test")" "$(grep 'ERROR SUMMARY' "$work/log")"
  done
  for method in null fp8 int8 mxfp8 mxfp4; do
    quantized=()
    [ "$method" = null ] || quantized=(--quantization "$method")
    "${memcheck[@]}" "$loadstone" generate $model --device cuda:0 --compute bf16 "${quantized[@]}" \
      --prompt "a cat" --seed 1 --num-inference-steps 2 --height 128 --width 128 \
      --output "$work/checked.png" >"$work/log" 2>&1 ||
      { failed=3; grep -m 20 '=========' "$work/log"; }
    say "memcheck picture, $method" "$(grep 'ERROR SUMMARY' "$work/log")"
  done
fi

if has kernels; then
  timeout 300 "$pack/bin/kernels_test" >"$work/log" 2>&1 || failed=3
  grep -vE '^\[ (RUN|      OK)|^\[---|^$' "$work/log" | head -150
  timeout 400 "$pack/bin/kernels_bench" || failed=3
fi

# Both draw in float32 from one noise: the difference is what kernels sum differently.
if has quantized; then
  for method in fp8 int8 mxfp8 mxfp4; do
    for device in cuda:0 cpu; do
      "$loadstone" generate $model --device $device --quantization $method --compute f32 \
        --prompt "a cat" --seed 1 --num-inference-steps 8 --height 128 --width 128 \
        --output "$work/${device%%:*}.png" >"$work/log" 2>&1 || { failed=3; tail -3 "$work/log"; }
    done
    say "$method, GPU to CPU" "$(python3 -c '
import sys
import numpy as np
from PIL import Image
a, b = (np.asarray(Image.open(p).convert("RGB"), np.float64) for p in sys.argv[1:])
print("%.1f dB" % (10 * np.log10(255.0**2 / max(float(((a - b) ** 2).mean()), 1e-9))))' \
      "$work/cuda.png" "$work/cpu.png" 2>&1 | tail -1)"
  done
fi

if has emoji; then
  for dtype in f32 bf16; do
    if "$loadstone" load $model --device cuda:0 --report "$work/load.json" >"$work/log" 2>&1; then
      say "load emoji" "$(grep -E '^total' "$work/log")"
    else
      say "load emoji" "FAILED: $(tail -2 "$work/log")"
      failed=3
    fi
    python3 tests/gpu/emoji.py "$loadstone" $model "$pack/references" "$dtype" "$work" || failed=3
  done
fi

if has attention; then
  for dtype in f32 bf16; do
    python3 tests/gpu/attention.py "$loadstone" $model "$dtype" "$work" || failed=3
  done
fi

# Warm runs of the small model, as `compare` times them: launches decide at this size. The latents of
# every step are the same, bit for bit, with recorded kernels and without.
if has warm; then
  for dtype in f32 bf16; do
    for graphs in off on; do
      "$loadstone" compare --model $model --candidate-model $model --device cuda:0 \
        --compute $dtype --graphs $graphs --width 128 --height 128 --num-inference-steps 20 \
        --negative-prompt " " --seed 0 --warmup-runs 3 --measure-runs 7 \
        --output-json "$work/warm.json" >"$work/log" 2>&1 || { failed=3; tail -3 "$work/log"; }
      say "warm emoji $dtype, graphs $graphs" "$(python3 -c '
import json, sys
found = json.load(open(sys.argv[1]))
print("%.3f s" % found["candidate_generation"]["avg_generation_time_s"])' "$work/warm.json" 2>&1 | tail -1)"
      "$loadstone" generate $model --device cuda:0 --compute $dtype --graphs $graphs \
        --prompt "a cat" --negative-prompt " " --seed 1 --num-inference-steps 8 --height 128 \
        --width 128 --output "$work/$graphs.png" --trace "$work/$graphs.safetensors" \
        >"$work/log" 2>&1 || { failed=3; tail -3 "$work/log"; }
      grep -E 'denoise|not recorded' "$work/log"
    done
    same=$(cmp "$work/on.safetensors" "$work/off.safetensors" 2>&1) && same=equal || failed=3
    say "  trace with and without graphs" "$same"
  done
fi

# Loading as wide a model as `big`, with each online method that a kernel makes, beside what a bare
# loop and others reach with the same files in the same minute.
if has load; then
  big=/dev/shm/loadstone-big
  measure() {
    for attempt in 1 2 3; do
      "$loadstone" load "$big" --device cuda:0 ${1:+--quantization "$1"} ${2:+--io "$2"} \
        --report "$work/load-$attempt.json" >"$work/log" 2>&1 || { failed=3; tail -5 "$work/log"; }
    done
    say "load, $layout, ${1:-plain}${2:+, io $2}" \
      "$(python3 tests/gpu/load_line.py "$work"/load-?.json 2>&1 | tail -2)"
  }
  for layout in one forty dtype blocks; do
    python3 tests/gpu/big_model.py $model "$big" "${BLOCKS:-30}" $layout || failed=3
    "$pack/bin/bare_loop" "$big"/transformer/*.safetensors || failed=3
    measure ""
    measure fp8
  done
  measure "" map
  measure fp8 map
  for method in int8 mxfp8 mxfp4 '{"method": "fp8", "weight_granularity": "tensor"}' \
    '{"method": "fp8", "weight_block_size": [128, 128]}'; do
    measure "$method"
  done
  python3 tests/gpu/peers.py "$big" || failed=3
  rm -rf "$big"
fi

if has big; then
  big=/dev/shm/loadstone-big
  python3 tests/gpu/big_model.py $model "$big" "${BLOCKS:-30}" || failed=3
  for attempt in 1 2; do
    "$loadstone" load "$big" --device cuda:0 --report "$work/load.json" >"$work/log" 2>&1 || failed=3
    say "load big, run $attempt" ""
    cat "$work/log"
  done
  # 4,096 image tokens and about 256 of text.
  prompt=$(printf 'a cup of coffee on the table %.0s' $(seq 36))
  for method in ${METHODS:-null fp8 int8 fp8+attention}; do
    say "bench big, $method" ""
    printf 'version: 1\nmodel: "%s"\n' "$big" >"$work/big.yaml"
    [ "${method%+*}" = null ] || echo "quantization: ${method%+*}" >>"$work/big.yaml"
    case $method in *+attention) echo "attention: {kv_cache_dtype: fp8}" >>"$work/big.yaml" ;; esac
    "$loadstone" bench --config "$work/big.yaml" --device cuda:0 --dtype bf16 --compute bf16 \
      --prompt "$prompt" --graphs "${GRAPHS:-on}" --num-inference-steps "${STEPS:-8}" --rounds "${ROUNDS:-2}" \
      2>"$work/log" || { failed=3; tail -5 "$work/log"; }
  done
  rm -rf "$big"
fi
. "$here/options.sh"
exit $failed
