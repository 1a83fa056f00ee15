#!/usr/bin/env bash
# An emulated ARM computer in a folder: qemu's user mode, Debian's Python for arm64, and the wheels
# that pip has for it. Nothing is installed in this system.
#
#     tests/arm/make_machine.sh FOLDER
#
# Debian 12's own qemu (7.2) crashes when ONNX Runtime 1.32 is imported; Debian 13's does not.
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
release=trixie
python=3.13
[ ! -e "$folder/made" ] || exit 0

# apt for another release and another processor, apart from this system's: of the same mirror.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -n "$mirror" ] && [ -e "$keys" ] || { echo 'wants a Debian, for its packages' >&2; exit 1; }
mkdir -p "$folder"/apt/{lists/partial,cache/archives/partial} "$folder"/{debs,root,site}
touch "$folder/apt/status"
echo "deb [arch=amd64,arm64 signed-by=$keys] $mirror $release main" > "$folder/apt/sources.list"
cat > "$folder/apt/apt.conf" << END
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
APT::Architectures {"amd64"; "arm64";};
APT::Sandbox::User "root";
END
export APT_CONFIG=$folder/apt/apt.conf
apt-get -q update
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
