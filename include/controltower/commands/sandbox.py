"""`controltower sandbox-credentials`: what a .env file needs to send to the sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from controltower import settings


def sandbox_credentials(url: Annotated[str, typer.Option(help="where the sandbox will be reached")]) -> None:
    """Make the sandbox's credentials in the home, and print them as lines for a .env file."""
    from controltower.sandbox import credentials

    made = credentials.make(settings.load().home.resolve() / "sandbox", url)
    print(f"CONTROLTOWER_SENDGRID_URL={url}")
    print(f"CONTROLTOWER_SENDGRID_API_KEY={made.api_key}")
    print(f"CONTROLTOWER_SENDGRID_WEBHOOK_KEYS={made.webhook_public_key}")
    print(f"CONTROLTOWER_FCM_URL={url}")
    print(f"CONTROLTOWER_FCM_CREDENTIALS={made.service_account_path}")
