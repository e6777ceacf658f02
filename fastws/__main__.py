"""`python -m fastws` is the `fastws` command."""

import sys

from .process.cli import main

if __name__ == "__main__":
    sys.exit(main())
