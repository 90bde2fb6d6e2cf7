"""What of this machine every walled run needs to see: programs, libraries, the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))
TMPFS_MB, SHARED_MB = 512, 64
"""What a run may write: to its home, and as shared memory."""
HOME = Path("/tmp")
"""Its home, in memory."""

_SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "hosts", "nsswitch.conf", "localtime")


def seen_with(readable: Iterable[Path], without: Iterable[str] = ()) -> list[Path]:
    """This interpreter, some settings and what is readable, whatever of it exists; `without` some of the settings."""
    settings = [Path("/etc", name) for name in _SETTINGS if name not in without]
    interpreter = [Path(sys.base_prefix), Path(sys.prefix)]
    return [path for path in (*settings, *interpreter, *readable) if path.exists()]
