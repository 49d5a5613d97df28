"""The desk over HTTP: an ASGI application on Starlette's request alone, and the ways to mount it in a host.

``mount_workflow_runs_admin_routes`` and ``mount_health_routes`` for FastAPI and Starlette; ``admin_asgi`` and ``health_asgi`` for the rest.
Nothing is mounted without ``authorize``. Needs the extra ``web``.
"""

from .access import (
    ADMIN,
    CANCEL,
    READ,
    READ_PAYLOAD,
    RETRY,
    SCOPES,
    TRIGGER,
    AdminSurface,
    Authorize,
    DevelopmentAccess,
    Principal,
    bearer_tokens,
    development_access,
)
from .health import health_asgi, mount_health_routes
from .openapi import openapi_document
from .router import admin_asgi, mount_workflow_runs_admin_routes

__all__ = [
    "ADMIN",
    "CANCEL",
    "READ",
    "READ_PAYLOAD",
    "RETRY",
    "SCOPES",
    "TRIGGER",
    "AdminSurface",
    "Authorize",
    "DevelopmentAccess",
    "Principal",
    "admin_asgi",
    "bearer_tokens",
    "development_access",
    "health_asgi",
    "mount_health_routes",
    "mount_workflow_runs_admin_routes",
    "openapi_document",
]
