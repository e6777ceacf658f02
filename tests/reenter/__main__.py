"""Have everybody who may run in the middle of something push, join, leave and close, and check what clients get.

    python -m tests.reenter [--seconds N] [--seed N]

Episode follows episode, each with the next seed, until the time is over; the seed is printed first, so that it is known
even where the process ends. It exits with 1 at the first episode that finds something.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
import traceback

from .episode import play

STUCK = 120  # seconds; an episode takes one


def main() -> int:
    """Play episodes until the time is over; return 1 if one finds something."""
    parser = argparse.ArgumentParser(description="Re-enter the core from everywhere.")
    parser.add_argument("--seconds", type=float, default=60, help="begin no further episode later than that")
    parser.add_argument("--seed", type=int, default=None, help="of the first episode; any by default")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    end = time.monotonic() + arguments.seconds
    count = 0
    while count == 0 or time.monotonic() < end:
        print(f"seed {seed}: ", end="", flush=True)
        faulthandler.dump_traceback_later(STUCK, exit=True)
        try:
            print(play(seed), flush=True)
        except Exception:
            traceback.print_exc()
            print(f"again with: make reenter SEED={seed}", file=sys.stderr)
            return 1
        count, seed = count + 1, seed + 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{count} episodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
