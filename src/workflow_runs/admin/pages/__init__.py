"""The pages of the desk: server-rendered HTML on the same desk as the API, mounted under any prefix of any host.

``mount_workflow_runs_pages`` for FastAPI and Starlette, ``pages_asgi`` for the rest. Needs the extra ``web``.
"""

from .app import PagesApp, mount_workflow_runs_pages, pages_asgi
from .settings import PageSettings

__all__ = ["PageSettings", "PagesApp", "mount_workflow_runs_pages", "pages_asgi"]
