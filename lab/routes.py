"""Given: which route took a request, by its template and not by its path."""

from collections.abc import Mapping
from typing import Any

UNMATCHED = "unmatched"
"""One name for all requests that no route takes: clients can invent any number of paths."""


def route_template(scope: Mapping[str, Any]) -> str:
    """The template of the route that took a request, with the prefixes of its routers: `/v1/items/{item_id}`.

    Known only once the app has routed the request: ask when it is answered. `"unmatched"` where no route took it.
    """
    # FastAPI keeps what an included router adds apart: `scope["route"].path` has lost the prefixes (0.165).
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route") or _by_endpoint(scope)
    if route is None or scope["method"] not in (route.methods or [scope["method"]]):
        return UNMATCHED
    mounted_at = scope["root_path"].removeprefix(scope["app_root_path"]) if "app_root_path" in scope else ""
    return f"{mounted_at}{route.path_format}"


def _by_endpoint(scope: Mapping[str, Any]) -> Any:
    """Starlette's own routes, such as FastAPI's /docs, leave nothing but their endpoint."""
    routes = scope["router"].routes if "endpoint" in scope and "router" in scope else []
    return next((route for route in routes if getattr(route, "endpoint", None) is scope["endpoint"]), None)
