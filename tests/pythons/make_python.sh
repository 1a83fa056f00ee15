#!/usr/bin/env bash
# Another version of Python in a folder, from another release of Debian with the libraries that it
# wants: nothing is installed in this system, and nothing has to be compiled.
#
#     tests/pythons/make_python.sh FOLDER trixie 3.13     # makes FOLDER/bin/python
#     FOLDER/bin/pip install -e '.[cpu,test-runtime]'
#
# That python is a script which has the release's own loader run its Python, as this system's C
# library may be older.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../apt_of_release.sh"

folder=$(mkdir -p "$1" && cd "$1" && pwd)
release=$2
version=$3
[ ! -e "$folder/made" ] || exit 0

mkdir -p "$folder/root"
apt_of_release "$folder" "$release"
# Into an empty system: all that it depends on comes with it. The last two are what wheels want.
apt-get -qy --download-only --no-install-recommends install "python$version" libgomp1 libstdc++6
for deb in "$folder"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$folder/root"; done
unset APT_CONFIG
rm -rf "$folder/apt"

real=$folder/root/usr/bin/python$version
mv "$real" "$real.real"
cat > "$real" << END
#!/bin/sh
exec "$folder/root/usr/lib64/ld-linux-x86-64.so.2" --argv0 "\$0" \\
    --library-path "$folder/root/usr/lib/x86_64-linux-gnu" "$real.real" "\$@"
END
chmod +x "$real"
# Debian's own pip is looked for in places of the system's.
"$real" -m venv --without-pip "$folder"
"${PYTHON:-python3}" -m pip -q --python "$folder/bin/python" install pip
"$folder/bin/python" --version
touch "$folder/made"
