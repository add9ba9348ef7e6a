# Steps of run.sh about where and how a drawing runs, sourced by it.

# decibels A.png B.png
decibels() {
  python3 -c '
import sys
import numpy as np
from PIL import Image
a, b = (np.asarray(Image.open(p).convert("RGB"), np.float64) for p in sys.argv[1:])
print("equal" if (a == b).all() else "%.1f dB" % (10 * np.log10(255.0**2 / ((a - b) ** 2).mean())))' \
    "$1" "$2" 2>&1 | tail -1
}

# draw NAME FLAG…: $work/NAME.png of the small model, 8 steps of 128x128
draw() {
  local name=$1
  shift
  "$loadstone" generate $model --prompt "a cat" --seed 1 --num-inference-steps 8 --height 128 \
    --width 128 --output "$work/$name.png" "$@" >"$work/log" 2>&1 ||
    { failed=3; tail -3 "$work/log"; }
}

# Components on the GPU or not, in float32: the same picture.
if has place; then
  draw cpu --device cpu
  for places in '{device: "cuda:0"}' '{device: "cuda:0", place: {text_encoder: cpu}}' \
    '{device: "cuda:0", place: {vae: cpu}}' '{device: "cuda:0", place: {text_encoder: cpu, vae: cpu}}' \
    '{place: {transformer: cuda}}' '{place: {vae: "cuda:0"}}'; do
    echo "load: $places" >"$work/place.yaml"
    draw placed --config "$work/place.yaml"
    say "placed, to the CPU" "$(decibels "$work/placed.png" "$work/cpu.png"), $places"
  done
  echo 'load: {place: {vae: "cuda:7"}}' >"$work/place.yaml"
  "$loadstone" generate $model --prompt cat --output "$work/none.png" --config "$work/place.yaml" \
    >"$work/log" 2>&1 && failed=3
  say "a GPU that isn't there" "$(tail -1 "$work/log")"
fi

# Activations of 16 bits through every method's kernels, against float32 on the CPU.
if has half; then
  for method in null fp8 int8 mxfp8 mxfp4; do
    quantized=()
    [ "$method" = null ] || quantized=(--quantization "$method")
    draw f32 --device cpu "${quantized[@]}"
    for dtype in bf16 f16; do
      draw half --device cuda:0 --dtype $dtype --compute $dtype "${quantized[@]}"
      say "$method in $dtype" "$(decibels "$work/half.png" "$work/f32.png") to float32 on the CPU"
    done
  done
fi

# The decoder at its real size: a picture of 1024x1024 at once and in strips, and where another
# program holds most of the memory.
if has decode; then
  sized=/dev/shm/loadstone-decode
  python3 tests/gpu/big_model.py $model $sized 1 one vae || failed=3
  decode() {  # NAME FLAG…
    local name=$1
    shift
    "$loadstone" generate $sized --device cuda:0 --prompt "a cat" --seed 1 --num-inference-steps 2 \
      --output "$work/$name.png" "$@" >"$work/log" 2>&1 || { failed=3; tail -5 "$work/log"; }
    say "decode $name" "$(decibels "$work/$name.png" "$work/all-$dtype.png") to all rows"
    grep -E 'decode|memory' "$work/log"
    grep -q 'too much memory' "$work/log" && failed=3
  }
  for dtype in bf16 f32; do
    common=(--dtype $dtype --compute $dtype)
    decode all-$dtype "${common[@]}" --decode-rows 1024
    for rows in 256 64; do decode $rows-$dtype "${common[@]}" --decode-rows $rows; done
  done
  dtype=bf16
  for mib in 5120 2560; do  # that the other program leaves free
    python3 -c '
import sys, time
import torch
torch.cuda.init()
free = torch.cuda.mem_get_info()[0]
held = torch.empty(free - (int(sys.argv[1]) << 20), dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(60)' $mib >"$work/holder" 2>&1 &
    holder=$!
    for _ in $(seq 40); do grep -q held "$work/holder" && break; sleep 0.5; done
    decode beside-$mib --dtype bf16 --compute bf16
    kill $holder
    wait $holder 2>/dev/null
  done
  rm -rf $sized
fi

# Every component at its real size, BLOCKS of the transformer's (default 12): what drawing 1024x1024
# takes beside the weights, of what was planned.
if has sized; then
  sized=/dev/shm/loadstone-sized
  python3 tests/gpu/big_model.py $model $sized "${BLOCKS:-12}" blocks vae text_encoder || failed=3
  prompt=$(printf 'a cup of coffee on the table %.0s' $(seq 36))
  for method in ${METHODS:-null fp8}; do
    quantized=()
    [ "$method" = null ] || quantized=(--quantization "$method")
    say "every size, $method" ""
    "$loadstone" bench $sized --device cuda:0 --dtype bf16 --compute bf16 --prompt "$prompt" \
      "${quantized[@]}" --num-inference-steps "${STEPS:-4}" --rounds 1 2>"$work/log" ||
      { failed=3; tail -5 "$work/log"; }
  done
  rm -rf $sized
fi
