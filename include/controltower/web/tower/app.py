"""The Tower app: what a marketer sees and does in Airflow, mounted there at /tower.

Every route asks Airflow who is there and what they may (web/auth.py, web/guards.py). It works in worker threads,
imports what is heavy when it is first needed, and shows errors as pages that give nothing away.
"""

from __future__ import annotations

from fastapi import FastAPI

from controltower.settings import Settings
from controltower.web import auth
from controltower.web.tower import models, refusals, segments, views
from controltower.web.tower.desk import Desk, Guard


def create_app(settings: Settings, guard: Guard = auth) -> FastAPI:
    """The app of one home; `guard` knows who asks and what they may."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(settings, guard)
    app.include_router(views.routes)
    app.include_router(segments.routes)
    app.include_router(models.routes)
    refusals.add_handlers(app)
    return app
