#!/bin/sh
# Builds a template as a third party would: copied away, against the installed SDK alone; then runs
# the kit on it.
#   build_outside.sh BUILD_FOLDER TEMPLATE_FOLDER PLUGIN_CHECK
set -eu
build=$1
template=$2
plugin_check=$3
name=$(basename "$template")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

cmake --install "$build" --component loadstone_sdk --prefix "$place/sdk" >/dev/null
cp -r "$template" "$place/$name"
cmake -S "$place/$name" -B "$place/build" -G Ninja -DCMAKE_PREFIX_PATH="$place/sdk" \
  -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$place/build"
"$plugin_check" "$place/build/plugins/$name.so" --seconds 5
