#!/usr/bin/env bash
# Install the clients of other ecosystems that tests/clients tries:
#
#   clients.sh [DIRECTORY]
#
# Those for Python, Node, Go and C are put into the directory; those for Perl, Ruby, Tcl and Lua, Java's Jetty, and what
# Go's and C's are compiled from, are packages of Debian, which are installed for root only. What cannot be had is named
# and left out.
#
#   PYTHON   the interpreter whose clients they become
set -euo pipefail
cd "$(dirname "$0")/.."
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/fastws/clients}
python=${PYTHON:-python3}
node_packages=(ws@8.23.0 undici@7.30.2 faye-websocket@0.11.4 websocket@1.0.35 nodejs-websocket@1.7.2)
debian_packages=(
    libmojolicious-perl libanyevent-websocket-client-perl ruby-faye-websocket ruby-websocket-driver tcl tcllib lua5.1 lua-http
    libjetty9-java libjetty9-extra-java libslf4j-java libwebsockets-dev
    golang-go golang-github-gorilla-websocket-dev golang-golang-x-net-dev golang-nhooyr-websocket-dev
)
mkdir -p "$directory"

without() { echo "without the clients for $1: $2" >&2; }
has() { command -v "$1" >/dev/null; }

install_python() {
    cmp -s tests/clients/python.txt "$directory/python/installed.txt" && return
    rm -rf "$directory/python"
    "$python" -m venv "$directory/python"
    # All at once, or where one of them is not to be had for this Python, those that are
    "$directory/python/bin/pip" install -qq -r tests/clients/python.txt ||
        while read -r requirement; do
            "$directory/python/bin/pip" install -qq "$requirement" || without Python "no $requirement"
        done < <(grep == tests/clients/python.txt)
    cp tests/clients/python.txt "$directory/python/installed.txt"
}

install_node() {
    [ "$(cat "$directory/node/installed.txt" 2>/dev/null)" = "${node_packages[*]}" ] && return
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$directory/node" "${node_packages[@]}" >&2 &&
        echo "${node_packages[*]}" >"$directory/node/installed.txt"
}

install_debian() {
    local missing=() package
    for package in "${debian_packages[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

version_of() { dpkg-query -W -f '${Version}' "$1" | sed -E 's/^[0-9]+://; s/[-+].*//'; }

install_go() {
    local flags=() name package
    for name in gorilla:golang-github-gorilla-websocket-dev xnet:golang-golang-x-net-dev nhooyr:golang-nhooyr-websocket-dev; do
        package=${name#*:}
        flags+=("-X main.${name%%:*}Version=$(version_of "$package")")
    done
    GO111MODULE=off GOFLAGS= GOPATH=/usr/share/gocode go build -ldflags "${flags[*]}" -o "$directory/go/drive" tests/clients/drive.go
}

install_c() {
    mkdir -p "$directory/c"
    cc -O1 -DLIBWEBSOCKETS="\"$(version_of libwebsockets-dev)\"" -o "$directory/c/drive" tests/clients/drive.c -lwebsockets
}

install_python || without Python "pip cannot install them"
if has npm; then install_node || without Node "npm cannot install them"; else without Node "there is no npm"; fi
if has apt-get && [ "$(id -u)" -eq 0 ]; then
    install_debian || without "Perl, Ruby, Tcl, Lua, Jetty, Go and C" "apt-get cannot install them"
fi
if has go && [ -d /usr/share/gocode/src/nhooyr.io ]; then
    install_go || without Go "they do not compile"
else
    without Go "there is no compiler, or no sources"
fi
if has cc && [ -e /usr/include/libwebsockets.h ]; then
    install_c || without C "libwebsockets does not compile"
else
    without C "there is no compiler, or no libwebsockets"
fi
echo "$directory"
