"""Starts Locust with a limit of CPU time, so that an endless loop is ended, and its line is printed.

`python -P locust_start.py SECONDS ...`: the other arguments are Locust's. Its import does not count. Windows has no
such limit.
"""

import faulthandler
import math
import signal
import sys
import time


def main() -> None:
    """Run Locust in this process."""
    import locust.main  # here: it puts gevent in the place of the standard library, for good

    seconds = int(sys.argv.pop(1))
    if sys.platform != "win32":
        import resource

        most = math.ceil(time.process_time()) + seconds
        faulthandler.register(signal.SIGXCPU, chain=True)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
    locust.main.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
