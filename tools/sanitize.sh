#!/usr/bin/env bash
# Run the tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer (gcc, Linux). Arguments go to pytest, or
# behind --module they are a module of Python's and its arguments.
# The dependencies must be installed already (`make develop`); the core is compiled in place.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

FASTWS_BUILD=sanitize make build PYTHON="$python"

# The interpreter is not instrumented, so the runtime must be there before it. It allocates with malloc, so that ASan sees
# every object; it leaks at exit by design, so leaks are counted by the debug build instead. libstdc++ comes along because
# ASan looks up its exception functions when it starts.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so.6)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:${UBSAN_OPTIONS:-}
export PYTHONMALLOC=malloc

if [[ ${1:-} == --module ]]; then
    exec "$python" -m "${@:2}"
fi
# Chromium would inherit the runtime, and does not start with it.
exec "$python" -m pytest -p no:cacheprovider -m "not browser" "$@"
