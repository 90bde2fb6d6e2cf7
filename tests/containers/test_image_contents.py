"""What is left in an image whose layers add and remove files."""

from __future__ import annotations

from checks.harness.containers.image_contents import _caches, _installed

VENV = "app/.venv/lib/python3.12/site-packages/locust"
PACKAGE = [f"{VENV}/__init__.py", f"{VENV}/user/__init__.py"]


def test_a_package_is_found_wherever_it_is_installed() -> None:
    """Also where no Python on the PATH would import it."""
    assert f"/{VENV}" == _installed("locust", [["bin/sh"], PACKAGE])
    assert "" == _installed("locust", [["app/locust/__init__.py", "x/site-packages/locust_plugins/__init__.py"]])


def test_what_a_later_layer_removes_is_not_installed() -> None:
    """A file, its folder, or all that was in a folder: `.wh.` marks them."""
    for gone in ("app/.wh..venv", "app/.venv/lib/.wh.python3.12", "app/.wh..wh..opq"):
        assert "" == _installed("locust", [PACKAGE, [gone]])
    assert f"/{VENV}" == _installed("locust", [PACKAGE, ["app/.wh.other"], []])
    assert f"/{VENV}" == _installed("locust", [PACKAGE, ["app/.wh..venv"], PACKAGE])


def test_a_cache_stays_in_its_layer() -> None:
    """Although a later one removes it."""
    assert ["/root/.cache/pip"] == _caches([["root/.cache/pip/http-v2/a"], ["root/.wh..cache"]])
