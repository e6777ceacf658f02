"""The coverage plugin of Cython, taught where the parts of the core are compiled.

Cython's plugin looks for the C text of an included file beside it, and further up only through packages. Our parts lie
in ``fastws/core``, which is no package, so a report that meets one of them first would find nothing and fail.
"""

from pathlib import Path
from typing import Any

from Cython.Coverage import Plugin

COMPILED = Path(__file__).resolve().parent.parent / "fastws" / "_speedups.c"


class CorePlugin(Plugin):
    """Find every included file of the core in the one C text."""

    def _find_source_files(self, filename: str) -> Any:
        if filename.endswith(".pxi"):
            self._read_source_lines(str(COMPILED), filename)
            return (str(COMPILED) if filename in self._c_files_map else None), None
        return super()._find_source_files(filename)


def coverage_init(registry: Any, options: Any) -> None:
    """Let coverage know the plugin."""
    plugin = CorePlugin()
    registry.add_configurer(plugin)
    registry.add_file_tracer(plugin)
