#!/usr/bin/env bash
# Run the tests against an installed fastws, in a directory that holds no fastws of its own:
#
#   test_installed.sh PYTHON SDIST [PYTEST ARGUMENT...]
#
# PYTHON is the interpreter of an environment with fastws and its test extra. The tests come out of the sdist, which proves
# that it carries all they need. The last line of the output is pytest's summary.
set -euo pipefail
python=$1 sdist=$2
shift 2

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
tar -xzf "$sdist" -C "$directory" --strip-components=1
rm -rf "$directory/fastws" "$directory/fastws.egg-info"
cd "$directory"

"$python" - <<'END'
import sysconfig
from pathlib import Path

import fastws
import fastws._speedups

for module in (fastws, fastws._speedups):
    path = Path(module.__file__).resolve()
    assert Path(sysconfig.get_path("platlib")).resolve() in path.parents, f"{path} is not an installed file"
print(f"testing fastws {fastws.__version__} as installed in {Path(fastws.__file__).parent}")
END
"$python" -m pytest "$@"
