"""The Tower page in Airflow's navigation: the only file that registers pages with Airflow."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from controltower import settings

here = settings.load()  # where a setting can't be used, Airflow lists the reason under Admin, Plugins


@cache
def app() -> Any:
    from controltower.web.tower.app import create_app

    return create_app(here)


async def tower(scope: Any, receive: Any, send: Any) -> None:
    """Built at the first request: every process of Airflow loads its plugins, and only the API server has pages."""
    await app()(scope, receive, send)


class Tower(AirflowPlugin):
    name = "controltower"
    fastapi_apps = [{"app": tower, "url_prefix": "/tower", "name": "Control Tower"}]  # noqa: RUF012
    # Without a leading slash: Airflow's pages resolve them against the path that it is served under.
    external_views = [  # noqa: RUF012
        {
            "name": "Tower",
            "href": "tower/",
            "destination": "nav",
            "url_route": "tower",
            "icon": "tower/icon.svg",
            "icon_dark_mode": "tower/icon-dark.svg",
        }
    ]
