"""Run a command in a process group of its own that does not outlive whoever started this program.

    python -I -S guard.py SECONDS COMMAND...

- standard input at its end, which is how the death of the parent shows, SIGKILL included: the group is killed at once;
- a byte on standard input, or SIGTERM, SIGINT or SIGHUP to this program: the command's main process is asked to end
  (SIGTERM), and its group is killed if it has not ended SECONDS later;
- the main process ends: what is left of its group is killed, and this program ends with the same exit code or signal.

What leaves the group on purpose (a session of its own) is out of reach here. 127 is the exit code of a command that
cannot be started. Standard library only, and no `site`: it stands between every server and its start (about 25 ms).
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time


def guard(seconds: float, command: list[str]) -> int:
    """Run `command` until it ends, is told to, or has no parent left.

    Args:
        seconds: how long the command may take from being asked to end until its group is killed.
        command: program and arguments; it gets no standard input, and this program's output and environment.

    Returns:
        The command's exit code, as `subprocess` tells it: -N for signal N; 127 when it cannot be started.
    """
    asked = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            # Not SIG_IGN, which the command would inherit.
            signal.signal(getattr(signal, name), lambda *_: asked.set())
    try:
        process = _start(command)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
        return 127

    def obey() -> None:
        asked.wait()
        _terminate(process)
        time.sleep(seconds)
        _kill_group(process)

    def watch() -> None:
        while os.read(0, 1):
            asked.set()
        _kill_group(process)

    for job in (obey, watch):
        threading.Thread(target=job, daemon=True).start()
    code = process.wait()
    _kill_group(process)
    return code


if sys.platform == "win32":

    def _start(command: list[str]) -> subprocess.Popen[bytes]:
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, creationflags=flags)

    def _terminate(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            process.send_signal(signal.CTRL_BREAK_EVENT)

    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)

else:

    def _start(command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def _terminate(process: subprocess.Popen[bytes]) -> None:
        process.terminate()

    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        # Gone already, or on macOS nothing but zombies (EPERM).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    ending = guard(float(sys.argv[1]), sys.argv[2:])
    if ending < 0:
        # The parent should see the signal that ended the command, not an exit code that stands for it.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-ending, signal.SIG_DFL)
        os.kill(os.getpid(), -ending)
    # Not sys.exit: the threads that wait here are not worth waiting for.
    os._exit(ending)
