"""Classroom 50 runs this in a learner's checkout: it grades the checkout, and leaves result.json there.

Everything beside this file is the lab. It needs nothing of the checkout but what a learner may edit.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

LAB = Path(__file__).resolve().parent
OPTIONS = "@OPTIONS@"


def main() -> None:
    """Grade the working directory. A non-zero exit code is a fault of the lab or of the machine, and no grade."""
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    uv = [sys.executable, "-m", "uv", "run", "--quiet", "--locked", "--project", str(LAB)]
    checkout = Path.cwd()
    submitted = subprocess.run(
        ["git", "show", "-s", "--format=%cI", "HEAD"], capture_output=True, text=True, check=True
    )
    told = os.environ | {"SUBMITTED_AT": submitted.stdout.strip()}
    with tempfile.TemporaryDirectory() as folder:
        grade = ["lab", "grade", str(checkout), "--one", "--out", f"{folder}/grades", "--jobs", "1", *OPTIONS.split()]
        subprocess.run([*uv, *grade], check=True)
        (results,) = Path(folder, "grades").glob("*/results.json")
        report = ["python", "-m", "checks.harness.report", str(results)]
        subprocess.run([*uv, *report, "--classroom50", str(checkout / "result.json")], cwd=LAB, env=told, check=True)


if __name__ == "__main__":
    main()
