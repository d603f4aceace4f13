"""Airflow's log-in and permissions, asked through its auth manager: the simple one, FAB's or another.

Permissions are asked for, never roles: not every auth manager has them. Airflow is imported inside the functions, so
that an app can be built, and its routes be looked at, without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request


@dataclass(frozen=True)
class User:
    """Somebody who is logged in to Airflow; `account` is what the auth manager knows of them."""

    id: str
    name: str
    account: Any


async def find_user(request: Request) -> User | None:
    """Who asks, by Airflow's cookie or a bearer token; None where nobody is logged in.

    HTTPException for a token that was tampered with, as everywhere in Airflow.
    """
    from airflow.api_fastapi.core_api import security

    try:
        account = await security.get_user(request, None, await security.bearer_scheme(request))
    except HTTPException as e:
        if e.status_code == 401:
            return None
        raise
    return User(str(account.get_id()), account.get_name(), account)


def may_read(user: User, campaigns: Iterable[str]) -> set[str]:
    """Those of the campaigns whose DAG the user may see."""
    return _allowed(user, campaigns, "GET", runs=False)


def may_run(user: User, campaigns: Iterable[str]) -> set[str]:
    """Those of the campaigns that the user may trigger, and so also pause, resume and cancel."""
    return _allowed(user, campaigns, "POST", runs=True)


def _allowed(user: User, campaigns: Iterable[str], method: Any, runs: bool) -> set[str]:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.models.dag import DagModel

    dags = {f"campaign_{name}": name for name in campaigns}
    if not dags:
        return set()
    manager, teams = get_auth_manager(), DagModel.get_dag_id_to_team_name_mapping(list(dags))
    return {
        name
        for dag, name in dags.items()
        if manager.is_authorized_dag(
            method=method,
            access_entity=DagAccessEntity.RUN if runs else None,
            details=DagDetails(id=dag, team_name=teams.get(dag)),
            user=user.account,
        )
    }
