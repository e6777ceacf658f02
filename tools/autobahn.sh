#!/usr/bin/env bash
# Put Autobahn's wstest, which tests/conformance drives, into a directory and print its path:
#
#   autobahn.sh [DIRECTORY]
#
# It is a program for Python 2.7: $PYTHON27, python2.7 on the PATH, or one of pyenv's. Where there is none, wstest is run
# from its official image by Docker. With neither, the exit status is 3. What was installed once is left alone.
set -euo pipefail
# Whoever calls may have set it for another Python
unset PYTHONPATH
tools=$(cd "$(dirname "$0")" && pwd)
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/fastws/wstest}
image=crossbario/autobahn-testsuite:25.10.1
wstest=$directory/wstest

find_python27() {
    local python
    for python in "${PYTHON27:-}" "$(command -v python2.7 || true)" "$HOME"/.pyenv/versions/2.7*/bin/python2.7; do
        [ -x "$python" ] || continue
        "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null && echo "$python" && return
    done
    return 1
}

has_docker() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

# Packages in a directory of their own, which becomes a site directory for their .pth files to count.
install_packages() {
    local python=$1
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip --user >/dev/null
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_PYTHON_VERSION_WARNING=1 "$python" -m pip install --quiet --no-deps \
        --upgrade --target "$directory/packages" --requirement "$tools/autobahn.txt" >&2
    cat >"$wstest" <<END
#!$python -E
import site, sys
sys.dont_write_bytecode = True
sys.path.insert(1, "$directory/packages")
site.addsitedir("$directory/packages")
from autobahntestsuite.wstest import run
run()
END
}

# The directory in which wstest is started holds its spec and gets its reports.
wrap_image() {
    docker pull --quiet "$image" >&2
    cat >"$wstest" <<END
#!/bin/sh
exec docker run --rm --init --network host --user "\$(id -u):\$(id -g)" --volume "\$PWD:/work" --workdir /work $image wstest "\$@"
END
}

if [ ! -x "$wstest" ] || ! cmp -s "$tools/autobahn.txt" "$directory/installed.txt"; then
    mkdir -p "$directory"
    if python=$(find_python27); then
        install_packages "$python"
    elif has_docker; then
        wrap_image
    else
        echo "wstest needs Python 2.7 or Docker, and neither is here" >&2
        exit 3
    fi
    chmod +x "$wstest"
    "$wstest" --autobahnversion >&2
    cp "$tools/autobahn.txt" "$directory/installed.txt"
fi
echo "$wstest"
