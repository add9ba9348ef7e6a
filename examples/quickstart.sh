#!/usr/bin/env bash
# From a bare Debian 12 to a picture: installs what is missing, builds, then draws
# "a cup of coffee on the table" twice, unquantized and through the fp8 plugin, and compares them.
#
#   examples/quickstart.sh [--gpu] [--output DIR]
#
#   --gpu     fetch what CUDA needs and draw on the first GPU, unquantized
#   --output  where pictures and report go (default: build/quickstart)
#
# Run it again whenever you like: everything that is there already is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

gpu=0
output=build/quickstart
while [ $# -gt 0 ]; do
  case $1 in
    --gpu) gpu=1 ;;
    --output) [ $# -ge 2 ] || { echo "quickstart: --output needs a folder" >&2; exit 2; }; output=$2; shift ;;
    -h|--help) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "quickstart: unknown option: found \"$1\", expected --gpu or --output" >&2; exit 2 ;;
  esac
  shift
done

step() { printf '\n== %s\n' "$1" >&2; }

step "packages"
cmake/install-packages.sh
step "LibTorch 2.11.0"
if [ $gpu = 1 ]; then cmake/get-libtorch.sh --cuda; else cmake/get-libtorch.sh; fi
step "build"
cmake --preset release -DLOADSTONE_TESTS=OFF >/dev/null
cmake --build --preset release

loadstone=build/release/bin/loadstone
model=examples/models/emoji
prompt="a cup of coffee on the table"
mkdir -p "$output"

if [ $gpu = 1 ]; then
  LD_LIBRARY_PATH=$(cmake/get-libtorch.sh --cuda --print)/torch/lib:${LD_LIBRARY_PATH:-}
  export LD_LIBRARY_PATH
  step "draw"
  "$loadstone" generate $model --device cuda:0 --prompt "$prompt" --negative-prompt " " \
    --true-cfg-scale 4 --seed 0 --width 128 --height 128 --num-inference-steps 20 \
    --output "$output/cup.png"
  exit
fi

step "what will happen to every layer"
"$loadstone" plan --config configs/quickstart.yaml
step "draw and compare"
"$loadstone" compare --model $model \
  --candidate-quantization-config-json '{"transformer": {"method": "fp8"}}' \
  --prompt "$prompt" --negative-prompt " " --cfg-scale 4 --seed 0 \
  --width 128 --height 128 --num-inference-steps 20 \
  --output-json "$output/compare.json" --save-output-dir "$output" --report "$output/report.html"

step "done"
cat >&2 <<EOT
unquantized  $output/reference/image_0.png
fp8          $output/candidate/image_0.png
report       $output/report.html
EOT
