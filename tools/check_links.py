"""Check that every relative link in the project's Markdown leads to a file that exists."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#\s]+)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def pages() -> list[Path]:
    """Return the pages: those that git knows, or all of them in an unpacked sdist."""
    git = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        check=False,
    )
    if git.returncode == 0 and git.stdout:
        return [path for path in (ROOT / name for name in git.stdout.rstrip("\0").split("\0")) if path.exists()]
    hidden = re.compile(r"(^|/)\.")
    return [path for path in ROOT.rglob("*.md") if not hidden.search(path.relative_to(ROOT).as_posix())]


def dead_links(page: Path) -> Iterator[str]:
    """Yield the relative links of a page that lead nowhere."""
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
            yield f"{page.relative_to(ROOT)}: {target} does not exist"


def main() -> int:
    """Check all pages; return 1 if a link is dead."""
    dead = [link for page in pages() for link in dead_links(page)]
    print("\n".join(dead or ["all links lead somewhere"]))
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
