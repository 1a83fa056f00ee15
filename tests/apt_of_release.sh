# Sourced: apt for another release of Debian, apart from this system's, by the same mirror.

# apt_of_release FOLDER RELEASE [PROCESSOR ...]: points APT_CONFIG to one whose files lie in
# FOLDER/apt. It knows of no package that is installed. Without PROCESSORs they are this system's.
apt_of_release() {
    local folder=$1 release=$2 mirror
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    local options="signed-by=$keys" architectures=
    shift 2
    if [ $# -gt 0 ]; then
        options="arch=$(IFS=,; echo "$*") $options"
        architectures="APT::Architectures {$(printf '"%s";' "$@")};"
    fi
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null |
        grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
    [ -n "$mirror" ] && [ -e "$keys" ] || { echo 'wants a Debian, for its packages' >&2; return 1; }
    mkdir -p "$folder"/apt/{lists/partial,cache/archives/partial}
    touch "$folder/apt/status"
    echo "deb [$options] $mirror $release main" > "$folder/apt/sources.list"
    cat > "$folder/apt/apt.conf" << END
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
APT::Sandbox::User "root";
$architectures
END
    export APT_CONFIG=$folder/apt/apt.conf
    apt-get -q update
}
