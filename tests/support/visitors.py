"""Who visits the Tower app in a test: a guard like web/auth.py, whose visitor and permissions the test sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controltower.web.auth import User
from fastapi import Request


@dataclass
class Door:
    """Without names in `reads` or `triggers`, the visitor may do so with every campaign."""

    user: User | None = field(default_factory=lambda: User("7", "mia", None))
    reads: set[str] | None = None
    triggers: set[str] | None = None

    async def find_user(self, request: Request) -> User | None:
        return self.user

    def may_read(self, user: User, campaigns: Iterable[str]) -> set[str]:
        return set(campaigns) if self.reads is None else self.reads & set(campaigns)

    def may_run(self, user: User, campaigns: Iterable[str]) -> set[str]:
        return set(campaigns) if self.triggers is None else self.triggers & set(campaigns)
