#!/usr/bin/env bash
# Proves the two commands of the README on a bare Debian 12: a fresh chroot (debootstrap), a fresh
# clone in it, then examples/quickstart.sh and tests/run.sh. Needs root and about 6 GB of disk.
#
#   tests/bare_debian.sh [--quick] [FOLDER]      FOLDER: default build/bare-debian, removed first
#
# Registries are the ones that this machine's apt and pip are set up for; their configuration is
# copied into the chroot. LOADSTONE_SHARED, when it is there, is mounted read-only.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD

quick=()
if [ "${1:-}" = --quick ]; then quick=(--quick); shift; fi
root=${1:-$project/build/bare-debian}
[ "$(id -u)" = 0 ] || { echo "bare_debian: needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null

mounts=()
unmount() { local m; for m in "${mounts[@]}"; do umount -l "$m"; done; mounts=(); }
trap unmount EXIT
bind() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; mounts=("$root$2" "${mounts[@]}"); }

rm -rf "$root"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u | grep -v security | head -1)
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" >/dev/null
cp -a /etc/apt/. "$root/etc/apt/"
for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
  if [ -f "$file" ]; then mkdir -p "$root$(dirname "$file")"; cp "$file" "$root$file"; fi
done
cp /etc/resolv.conf /etc/hosts "$root/etc/" 
for file in /usr/local/share/ca-certificates /etc/ssl; do
  if [ -d "$file" ]; then mkdir -p "$root$file"; cp -a "$file/." "$root$file/"; fi
done
bind /proc /proc
bind /dev /dev
bind /dev/pts /dev/pts

git clone -q "file://$project" "$root/root/loadstone"
shared=${LOADSTONE_SHARED:-$project/../shared}
if [ -d "$shared" ]; then bind "$shared" /root/shared; fi

passed_through=()
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE \
  http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  if [ -n "${!name:-}" ]; then passed_through+=("$name=${!name}"); fi
done
inside() {
  chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    "${passed_through[@]}" bash -c "cd /root/loadstone && $1"
}
inside ./examples/quickstart.sh
inside "./tests/run.sh ${quick[*]}"
echo "bare Debian 12: both commands succeeded"
