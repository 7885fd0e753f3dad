"""How many connections this process may have open: each takes a file descriptor.

Soft limits of 1,024 (Linux) and 256 (macOS) are below what Lambda runs at once. The hard limit may
be taken by any process; what is left is the caller's concurrency.
"""

import os
import sys

# For files, pipes and other connections of the program around us.
_RESERVED = 64
# Above this, macOS refuses the soft limit even where it says that the hard one is infinite:
# OPEN_MAX in <sys/syslimits.h>.
_MACOS_MOST = 10240
_PLENTY = 1_000_000


def raise_limit() -> None:
    """Raise the soft limit to the hard one, as far as the system lets us."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard
    if sys.platform == "darwin":
        wanted = _MACOS_MOST if hard == resource.RLIM_INFINITY else min(hard, _MACOS_MOST)
    if soft == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and soft >= wanted):
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass  # then there are fewer connections at a time


def left_for_connections() -> int:
    """Descriptors that may still be opened, less a reserve."""
    if sys.platform == "win32":
        return _PLENTY
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _PLENTY
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = _RESERVED
    return max(0, soft - used - _RESERVED)
