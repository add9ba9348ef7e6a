#!/usr/bin/env bash
# A family and a method are a folder each: both are added to a copy of the source tree, and the
# version control's own view of the copy shows that nothing else was touched. The family is data, so
# the program that is built already knows it; of the copy only the method is built.
#
#   tests/one_folder/run.sh BUILD
#
# Exit: 0 fine, 77 no git here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=$1
if ! command -v git >/dev/null; then
  echo "skipped: no git"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "one folder: $1" >&2; exit 1; }

tree=$work/tree
mkdir "$tree" "$work/bin" "$work/share"
for one in .gitignore CMakeLists.txt cmake core model_adapters plugins sdk; do
  cp -r "$source/$one" "$tree/$one"
done
git() { command git -C "$tree" -c user.name=test -c user.email=test@localhost "$@"; }
git init -q
git add -A
git commit -q -m before
touched() { # EXPECTED: the folders that differ from the tree before
  [ "$(git status --porcelain)" = "$1" ] || fail "found $(git status --porcelain), expected $1"
}

# The program, reading the copy's adapters.
cp "$build/bin/loadstone" "$work/bin"
mkdir "$work/share/loadstone"
ln -s "$tree/model_adapters" "$work/share/loadstone/model_adapters"
loadstone() { LOADSTONE_PLUGIN_PATH=$work/tree_build/plugins "$work/bin/loadstone" "$@"; }
mkdir -p "$work/tree_build/plugins"
python3 "$here/toy_model.py" write "$work/model"
python3 "$here/toy_model.py" write "$work/original" original

loadstone plan "$work/model" --format json >"$work/unknown.json" 2>/dev/null
grep -q '"family": *"generic"' "$work/unknown.json" || fail "the family was known before"

cp -r "$here/toy_family" "$tree/model_adapters/toy_family"
touched '?? model_adapters/toy_family/'
for model in model original; do
  loadstone plan "$work/$model" --format json >"$work/plan.json"
  python3 "$here/toy_model.py" check "$work/plan.json" null
done
git add -A
git commit -q -m family

cp -r "$here/toy_method" "$tree/plugins/toy_method"
touched '?? plugins/toy_method/'
cmake -S "$tree" -B "$work/tree_build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DLOADSTONE_RUNTIME=OFF -DLOADSTONE_TESTS=OFF -DLOADSTONE_CUDA=OFF >"$work/log" 2>&1 ||
  { cat "$work/log"; exit 1; }
cmake --build "$work/tree_build" --target loadstone_plugin_toy_method >"$work/log" ||
  { cat "$work/log"; exit 1; }
touched '?? plugins/toy_method/'

loadstone plugins check "$work/tree_build/plugins/toy_method.so" --seconds 10
for model in model original; do
  loadstone plan "$work/$model" --quantization toy_method --format json >"$work/plan.json"
  python3 "$here/toy_model.py" check "$work/plan.json" toy_method
done
loadstone load "$work/model" --quantization toy_method >"$work/log"
loadstone quantize "$work/model" --quantization toy_method --output "$work/quantized"
loadstone plan "$work/quantized" --format json >"$work/plan.json"
python3 "$here/toy_model.py" check "$work/plan.json" toy_method
loadstone dequantize "$work/quantized" --output "$work/floats" >"$work/log"
echo "one folder each"
