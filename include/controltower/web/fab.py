"""Airflow's FAB auth manager, where those who may answer a Required Action are called by name.

Airflow compares an action's `assigned_users` with the user's id, which in FAB is a number of its database that nobody
knows beforehand; with Airflow's simple auth manager it is the name. CONTROLTOWER_APPROVERS has names, for both.
Set AIRFLOW__CORE__AUTH_MANAGER=controltower.web.fab.NamedFabAuthManager.
"""

from __future__ import annotations

from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User


class NamedFabAuthManager(FabAuthManager):
    """Airflow looks for "FabAuthManager" in the setting, so the name must hold it."""

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        return user.get_name() in assigned_users
