"""Starts Locust with a limit of CPU time, so that a loop without an end has one, with its line among what is printed.

`python locust_start.py SECONDS ...`: the other arguments are Locust's. Windows has no such limit.
"""

import faulthandler
import runpy
import signal
import sys


def main() -> None:
    """Run Locust in this process."""
    seconds = int(sys.argv.pop(1))
    if sys.platform != "win32":
        import resource

        faulthandler.register(signal.SIGXCPU, chain=True)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    runpy.run_module("locust", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
