#!/usr/bin/env bash
# Put Node's `ws`, whose client tests/handshake/test_deflate_clients.py tries, into a directory and print where:
#
#   node_ws.sh [DIRECTORY]
#
# Without Node.js and npm the exit status is 3. What was installed once is left alone.
set -euo pipefail
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/fastws/node}
version=8.23.0

for program in node npm; do
    command -v "$program" >/dev/null || { echo "there is no $program" >&2; exit 3; }
done
package=$directory/node_modules/ws
if ! grep -qs "\"version\": \"$version\"" "$package/package.json"; then
    mkdir -p "$directory"
    npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$directory" "ws@$version" >&2
fi
echo "$package"
