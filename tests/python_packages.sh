#!/usr/bin/env bash
# Puts the Python packages that tests read our files with (gguf, safetensors, numpy) into a folder of
# their own and prints its Python. Does nothing when they are there.
#
#   python_packages.sh     into ~/.cache/loadstone/python-readers
set -euo pipefail

packages=(gguf==0.19.0 safetensors==0.8.0 numpy==2.2.6)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/loadstone/python-readers
stamp=$folder/$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c1-12)
if [ ! -e "$stamp" ]; then
  rm -rf "$folder"
  mkdir -p "$(dirname "$folder")"
  # Without ensurepip, which Debian keeps in a package of its own: the system's pip installs into it.
  python3 -m venv --without-pip "$folder"
  python3 -m pip --python "$folder/bin/python3" install --quiet --disable-pip-version-check \
    "${packages[@]}" >&2
  touch "$stamp"
fi
echo "$folder/bin/python3"
