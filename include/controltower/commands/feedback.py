"""`controltower feedback`: read what providers posted."""

from __future__ import annotations

from controltower.commands.showing import show


def feedback() -> None:
    """Read the stored webhooks (delivery events, suppressions, withdrawals), and let tomorrow's features know of them."""
    from controltower.jobs.feedback import ingest_feedback
    from controltower.jobs.learning import publish_engagement

    show(ingest_feedback())
    show({"engagement": publish_engagement()})
