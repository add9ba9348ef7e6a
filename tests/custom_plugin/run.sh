#!/usr/bin/env bash
# A third party's plugin from beginning to end: installs the SDK, copies examples/custom_plugin out
# of the tree, builds it there, runs the conformance kit, quantizes a model and loads what it wrote.
#
#   tests/custom_plugin/run.sh BUILD RUNTIME
#
# RUNTIME is 1 where the program draws; then it draws with the plugin too.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
runtime=$2
loadstone=$build/bin/loadstone
model=$source/examples/models/emoji
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "custom plugin: $1" >&2; exit 1; }

cmake --install "$build" --component loadstone_sdk --prefix "$work/sdk" >"$work/log"
if grep -rlF "$source" "$work/sdk"; then fail "the installed SDK names the source tree"; fi
cp -r "$source/examples/custom_plugin" "$work/plugin"
cd "$work"
cmake -S plugin -B build -G Ninja -DCMAKE_PREFIX_PATH="$work/sdk" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
  >log
cmake --build build >log || { cat log; exit 1; }
if grep -F "$source" build/compile_commands.json; then fail "it is compiled against the source tree"; fi

plugins=$work/build/plugins
"$loadstone" plugins check "$plugins/hadamard4.so" --seconds 20
"$loadstone" plugins list --plugin-dir "$plugins" | grep -q hadamard4

"$loadstone" quantize "$model" --quantization hadamard4 --plugin-dir "$plugins" --output quantized
"$loadstone" load quantized --plugin-dir "$plugins" --format json >report.json
"$loadstone" dequantize quantized --plugin-dir "$plugins" --output floats >log
python3 "$source/tests/custom_plugin/weights.py" "$model" quantized floats

code=0
"$loadstone" plan "$model" --plugin-dir "$plugins" \
  --quantization '{"method": "hadamard4", "rotation": 100}' 2>err || code=$?
[ $code = 2 ] || fail "rotation 100: found exit code $code, expected 2"
grep -q 'rotation: found 100, expected a power of two' err
code=0
"$loadstone" load quantized 2>err || code=$?
[ $code = 2 ] || fail "without the plugin: found exit code $code, expected 2"
grep -q hadamard4 err

if [ "$runtime" = 1 ]; then
  "$loadstone" generate quantized --plugin-dir "$plugins" --prompt cat --width 64 --height 64 \
    --num-inference-steps 2 --output cat.png >log
  test -s cat.png
fi
echo "custom plugin fine"
