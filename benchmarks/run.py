"""Answer all questions and write the tables: nothing else should run meanwhile.

Arguments go to the end-to-end scripts.
"""

from __future__ import annotations

import subprocess
import sys

from harness import HERE

if __name__ == "__main__":
    for script in ("echo", "broadcast", "idle", "handshake"):
        subprocess.run([sys.executable, str(HERE / f"{script}.py"), *sys.argv[1:]], check=True)
    subprocess.run([sys.executable, str(HERE / "parts.py")], check=True)
    subprocess.run([sys.executable, str(HERE / "report.py")], check=True)
