#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image: the lab and its Python, readable by every user.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v setpriv >/dev/null || ! python3 -m venv /opt/uv; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv util-linux
  python3 -m venv /opt/uv
fi
/opt/uv/bin/pip install --quiet uv
export UV_PYTHON_INSTALL_DIR=/opt/python # not in root's home, where no other user gets to
/opt/uv/bin/uv sync --quiet --locked --no-cache --compile-bytecode
.venv/bin/python -m compileall -q checks guide lab
