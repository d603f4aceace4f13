"""A script: every route of the Tower app inside Airflow's API server, as visitors with different permissions meet it.

Argument: the visitors, as JSON {name: role}. Prints {visitor: {"METHOD path": status}} as JSON on
the last line. The app is mounted by our plugin, and Airflow's own auth manager says who may what.
"""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace
from typing import Any

ORIGIN = {"Origin": "http://testserver"}
PATHS = {"name": "spring", "model": "m", "run_id": "1", "action": "pause"}


def simple_accounts(visitors: dict[str, Any]) -> dict[str, Any]:
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return {name: SimpleAuthManagerUser(username=name, role=role) for name, role in visitors.items()}


def fab_accounts(visitors: dict[str, Any]) -> dict[str, Any]:
    """Users in FAB's tables; a role given as a list is made of these (action, resource) pairs."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        security = builder.sm
        security.sync_roles()
        for name, role in visitors.items():
            found = security.find_role(role) if isinstance(role, str) else security.add_role(f"{name}_role")
            for action, resource in () if isinstance(role, str) else role:
                security.add_permission_to_role(found, security.create_permission(action, resource))
            security.add_user(name, name, name, f"{name}@example.com", found, password=name)
        return {name: SimpleNamespace(id=security.find_user(name).id) for name in visitors}


def walk(http: Any, token: str | None) -> dict[str, int]:
    from controltower.web.guards import TOWER

    http.cookies.clear()
    if token:
        http.cookies.set("_token", token)
    found = {}
    for method, path in TOWER:
        asked = "/tower" + re.sub(r"\{(\w+)\}", lambda m: PATHS[m[1]], path)
        if method == "POST":
            field = re.search(r'name="token" value="([^"]+)"', http.get("/tower/runs/1").text)
            answer = http.post(asked, data={"token": field[1]} if field else {}, headers=ORIGIN)
        else:
            answer = http.get(asked)
        found[f"{method} {path}"] = answer.status_code
    return found


def main(visitors: dict[str, Any]) -> dict[str, dict[str, int]]:
    from airflow.api_fastapi.app import create_app
    from airflow.configuration import conf
    from airflow.utils.db import initdb
    from starlette.testclient import TestClient

    initdb()
    fab = "fab" in conf.get("core", "auth_manager")
    accounts = fab_accounts(visitors) if fab else simple_accounts(visitors)
    app = create_app("core")
    with TestClient(app, follow_redirects=False) as http:
        known = {name: app.state.auth_manager.generate_jwt(account) for name, account in accounts.items()}
        return {
            "anonymous": walk(http, None),
            "forged": walk(http, "a.b.c"),
            **{name: walk(http, token) for name, token in known.items()},
        }


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(json.loads(sys.argv[1]))))
