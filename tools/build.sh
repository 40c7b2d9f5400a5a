# Sourced by demo.sh, test.sh and .ci/run: installs what the build needs, where it is missing (Debian, apt), and builds into build/.
# Sets `source` (the repository) and `build`. Without anything missing it calls no apt and needs no network.
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$source/build

say() { printf '==> %s\n' "$*"; }

# has_header HEADER [FOLDER ...]: it is in a standard place, or in one of the folders there.
has_header() {
    local header=$1 base folder
    shift
    for base in /usr/include /usr/include/*-linux-gnu /usr/local/include; do
        for folder in . "$@"; do
            [ ! -e "$base/$folder/$header" ] || return 0
        done
    done
    return 1
}

# Debian packages whose programs, libraries or headers are not there.
missing_packages() {
    if ! command -v cc >/dev/null || ! command -v c++ >/dev/null || ! command -v make >/dev/null; then
        echo build-essential
    fi
    command -v cmake >/dev/null || echo cmake
    command -v pkg-config >/dev/null || echo pkg-config
    PATH=$PATH:/sbin ldconfig -p | grep -q 'libopenblas\.so\.0' || echo libopenblas0 # opened at run time
    has_header cjson/cJSON.h || echo libcjson-dev
    has_header blake2.h || echo libb2-dev
    has_header xxhash.h || echo libxxhash-dev
    has_header stb_image.h stb || echo libstb-dev
    has_header microhttpd.h || echo libmicrohttpd-dev # trol-server
    has_header histedit.h || echo libedit-dev # the line editor of trol-cli --chat
    has_header jpeglib.h || echo libjpeg62-turbo-dev
    has_header webp/demux.h || echo libwebp-dev
    has_header libheif/heif.h || echo libheif-dev
}

# install_missing [FUNCTION]: what the function prints, missing_packages if none is named.
install_missing() {
    local packages as_root=()
    mapfile -t packages < <("${1:-missing_packages}")
    [ ${#packages[@]} -gt 0 ] || return 0
    say "missing on this machine: ${packages[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "There is no apt-get here: please install what these Debian packages contain, then run this again." >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Please run this as root, then this script again: apt-get install ${packages[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    say "installing them: ${as_root[*]:+${as_root[*]} }apt-get install ${packages[*]}"
    "${as_root[@]}" apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${packages[@]}" >/dev/null
}

# build_trol [CMAKE_OPTION ...]
build_trol() {
    install_missing
    say "building into ${build#"$source"/}/"
    cmake -S "$source" -B "$build" "$@" >/dev/null
    cmake --build "$build" --parallel "$(nproc)"
}
