"""The roles and the first users of an Airflow with the FAB auth manager; deploy/init.sh runs it.

Names and passwords come from ADMIN_USER, ADMIN_PASSWORD, MARKETER_..., APPROVER_.... A user who is there already stays
as they are; the two roles are brought to what stands here each time, and so learn of new campaigns.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
from controltower import settings
from controltower.campaigns.specs import load_specs

USERS = {"ADMIN": "Admin", "MARKETER": "Marketer", "APPROVER": "Approver"}
# Whoever may edit a DAG may pause and unpause it; Airflow asks for that also of those who trigger it or answer for it.
TO_START = {("can_edit", "DAG:{}"), ("can_create", "DAG Run:{}")}
TO_SEE_WHAT_WAITS = {("menu_access", "HITL Detail")}
TO_ANSWER = {("can_edit", "HITL Detail")}


def main() -> None:
    dags = [f"campaign_{spec.name}" for spec in load_specs(settings.load().campaigns)] + ["cancel_campaign"]
    start = {(action, resource.format(dag)) for action, resource in TO_START for dag in dags}
    with get_application_builder() as builder:
        builder.add_permissions(update_perms=True)
        security = builder.sm
        security.sync_roles()
        viewer = {(p.action.name, p.resource.name) for p in security.find_role("Viewer").permissions}
        marketer = viewer | start | TO_SEE_WHAT_WAITS
        keep_role(security, "Marketer", marketer)
        keep_role(security, "Approver", marketer | TO_ANSWER)
        for variable, role in USERS.items():
            say(make_user(security, os.environ[f"{variable}_USER"], os.environ[f"{variable}_PASSWORD"], role))


def keep_role(security: Any, name: str, permissions: set[tuple[str, str]]) -> None:
    """The role with exactly these permissions, each an action on a resource."""
    role = security.add_role(name)
    role.permissions = [security.create_permission(action, resource) for action, resource in sorted(permissions)]
    security.session.commit()


def make_user(security: Any, name: str, password: str, role: str) -> str:
    if security.find_user(username=name):
        return f"user {name} is there already and stays as they are"
    security.add_user(name, name, role, f"{name}@control-tower.invalid", security.find_role(role), password)
    return f"user {name} made, with the role {role}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    providers_configuration_loaded(main)()
