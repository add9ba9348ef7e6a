#!/usr/bin/env bash
# Bundles what tests/gpu/run.sh needs on a machine with a GPU where nothing can be installed:
#   tests/gpu/pack.sh BUILD [OUT]        OUT: build/gpu-pack (ignored by git)
# Program, plugins, adapters and the shared libraries that such a machine lacks; of the reference
# files (LOADSTONE_SHARED, default ../shared) the recorded runs and the layer oracle, where they
# exist. LibTorch and
# CUDA's libraries are that machine's own. Fails above 60 MiB.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?pack.sh BUILD [OUT]} out=${2:-build/gpu-pack}
shared=${LOADSTONE_SHARED:-../shared}
rm -rf "$out"
mkdir -p "$out"/{bin,plugins,lib,references,share/loadstone}

strip -o "$out/bin/loadstone" "$build/bin/loadstone"
for program in "$build"/tests/{bare_loop,{attention_gpu,device,fused,gpu,kernels,replay}_test,kernels_bench}; do
  if [ -x "$program" ]; then strip -o "$out/bin/$(basename "$program")" "$program"; fi
done
for plugin in "$build"/plugins/*.so; do
  strip -o "$out/plugins/$(basename "$plugin")" "$plugin"
  cp "${plugin%.so}.info" "$out/plugins/"
done
cp "$build"/plugins/*.yaml "$out/plugins/"
mkdir -p "$out/share/loadstone/model_adapters"
tar -cf - $(find model_adapters -name "*.yaml") | tar -xf - -C "$out/share/loadstone"

# Libraries of this system that the programs name, without those of LibTorch, CUDA and the C library.
ldd "$out"/bin/* | awk '$2 == "=>" && $3 ~ "^/" {print $3}' | sort -u |
  grep -v -E '/(libtorch|libc10|libutil|libcud|libcupti|libgomp|libc\.|libm\.|libdl\.|libpthread\.|librt\.|libstdc|libgcc)' |
  xargs -I{} cp -L {} "$out/lib/"

if [ -d "$shared/references/emoji" ]; then
  cp "$shared"/references/emoji/cases.json "$shared"/references/emoji/*.png "$out/references/"
  for file in "$shared"/references/emoji/*.safetensors; do
    case $file in *.blocks.safetensors | *vae_*) ;; *) cp "$file" "$out/references/" ;; esac
  done
  chmod -R u+w "$out/references"
fi
if [ -d "$shared/oracles" ]; then
  mkdir -p "$out/shared/oracles"
  cp "$shared"/oracles/layers.* "$out/shared/oracles/"
  chmod -R u+w "$out/shared"
fi
mib=$(du -sm "$out" | cut -f1)
echo "packed $out: $mib MiB"
[ "$mib" -le 60 ] || { echo "pack.sh: more than 60 MiB" >&2; exit 1; }
