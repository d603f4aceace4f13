"""`controltower feedback`: read what providers posted."""

from __future__ import annotations

from controltower.commands.showing import show


def feedback() -> None:
    """Read the stored webhooks: delivery events, suppressed addresses, withdrawn consents."""
    from controltower.jobs.feedback import ingest_feedback

    show(ingest_feedback())
