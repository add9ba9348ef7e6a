#!/usr/bin/env bash
# Installs the Debian packages that a build needs; does nothing (and asks nothing) when all are there.
#
#   install-packages.sh [--tests]     --tests: also what only the tests need
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache git pkg-config python3 python3-pip ca-certificates
  libboost-dev libyaml-cpp-dev libspdlog-dev libfmt-dev libsimdjson-dev libcli11-dev
  libre2-dev libutf8proc-dev nlohmann-json3-dev libpng-dev libgtest-dev libgmock-dev libssl-dev
)
test_packages=(clang-14 libclang-rt-14-dev clang-format-14)

for argument in "$@"; do
  case $argument in
    --tests) packages+=("${test_packages[@]}") ;;
    -h|--help) sed -n '2,4p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "install-packages: unknown option: found \"$argument\", expected --tests" >&2; exit 2 ;;
  esac
done

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "install-packages: packages missing: ${missing[*]}: run as root, or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing ${#missing[@]} Debian packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
