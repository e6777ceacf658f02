#!/usr/bin/env bash
# CPython 3.11 with uvloop 0.22.1 or asyncio: SIGTERM that is sent to a child of multiprocessing runs the *parent's*
# handler.
#
# A loop has signals written to a socket by the interpreter's C handler (signal.set_wakeup_fd), and reads them from there.
# A forked child inherits that handler and the socket, so the parent's loop reads what was sent to the child, and
# `process.terminate()` ends the server that calls it. The child, whose Python handler never runs, lives on.
#
# Seen: with both loops the parent's handler of SIGTERM runs; the child has not ended a second after terminate().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq uvloop==0.22.1
"$folder/venv/bin/python" - <<'END'
import asyncio, multiprocessing, signal, sys, time

import uvloop


async def terminate_child() -> tuple[bool, bool]:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    child.start()
    await asyncio.sleep(0.3)
    child.terminate()
    await asyncio.sleep(1)
    seen = told.is_set(), child.is_alive()
    child.kill()
    child.join()
    return seen


seen = {"asyncio": asyncio.run(terminate_child())}
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    seen["uvloop"] = runner.run(terminate_child())
for loop, (told, alive) in seen.items():
    print(f"CPython {sys.version.split()[0]}, {loop}: parent told: {told}; child lives on: {alive}")
assert all(pair == (True, True) for pair in seen.values()), "this has changed"
END
