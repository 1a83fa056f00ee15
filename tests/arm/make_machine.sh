#!/usr/bin/env bash
# An emulated ARM computer in a folder: qemu's user mode, Debian's Python for arm64, and the wheels
# that pip has for it. Nothing is installed in this system.
#
#     tests/arm/make_machine.sh FOLDER
#
# Debian 12's own qemu (7.2) crashes when ONNX Runtime 1.32 is imported; Debian 13's does not.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../apt_of_release.sh"

folder=$(mkdir -p "$1" && cd "$1" && pwd)
release=trixie
python=3.13
[ ! -e "$folder/made" ] || exit 0

mkdir -p "$folder"/{debs,root,site}
apt_of_release "$folder" "$release" amd64 arm64
cd "$folder/debs"
apt-get -q download qemu-user:amd64
for name in libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libffi8 libssl3t64 libbz2-1.0 \
    liblzma5 libsqlite3-0 libuuid1 libzstd1 \
    "libpython$python-minimal" "libpython$python-stdlib" "python$python-minimal"; do
    apt-get -q download "$name:arm64"
done
for deb in ./*_amd64.deb; do dpkg-deb --fsys-tarfile "$deb" |
    tar -xC "$folder" ./usr/bin/qemu-aarch64; done
for deb in ./*_arm64.deb; do dpkg-deb -x "$deb" "$folder/root"; done
ln -s usr/lib "$folder/root/lib"

unset APT_CONFIG
"${PYTHON:-python3}" -m pip install -q --target "$folder/site" --only-binary=:all: \
    --python-version "$python" --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    --no-deps onnxruntime flatbuffers packaging protobuf numpy pillow tokenizers click tqdm
rm -rf "$folder/debs" "$folder/apt"
printf '#!/bin/sh\nexec %s/usr/bin/qemu-aarch64 -L %s/root %s/root/usr/bin/python%s "$@"\n' \
    "$folder" "$folder" "$folder" "$python" > "$folder/python"
chmod +x "$folder/python"
touch "$folder/made"
