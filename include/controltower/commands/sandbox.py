"""`controltower sandbox|sandbox-credentials`: a local SendGrid and FCM, and how to send to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from controltower import settings

if TYPE_CHECKING:
    from controltower.sandbox.credentials import Credentials


def sandbox(
    port: Annotated[int, typer.Option(help="0: any free one")] = 8025,
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    url: Annotated[str | None, typer.Option(help="where others reach it; default: at that host and port")] = None,
) -> None:
    """A local SendGrid and FCM with an inbox page; runs until Ctrl-C."""
    from controltower.sandbox.serve import serve

    def announce(url: str, made: Credentials) -> None:
        print(f"sandbox: {url} (Ctrl-C ends it). To send to it:")
        print(f"  export CONTROLTOWER_SENDGRID_URL={url} CONTROLTOWER_FCM_URL={url}")
        print(f"  export CONTROLTOWER_SENDGRID_API_KEY=$(cat {made.service_account_path.with_name('sendgrid.key')})")
        print(f"  export CONTROLTOWER_FCM_CREDENTIALS={made.service_account_path}")
        print(f"  export CONTROLTOWER_SENDGRID_WEBHOOK_KEYS={made.webhook_public_key}", flush=True)

    serve(settings.load(), host, port, announce, url)


def sandbox_credentials(url: Annotated[str, typer.Option(help="where the sandbox will be reached")]) -> None:
    """Make the sandbox's credentials in the home, and print them as lines for a .env file."""
    from controltower.sandbox import credentials

    made = credentials.make(settings.load().home.resolve() / "sandbox", url)
    print(f"CONTROLTOWER_SENDGRID_URL={url}")
    print(f"CONTROLTOWER_SENDGRID_API_KEY={made.api_key}")
    print(f"CONTROLTOWER_SENDGRID_WEBHOOK_KEYS={made.webhook_public_key}")
    print(f"CONTROLTOWER_FCM_URL={url}")
    print(f"CONTROLTOWER_FCM_CREDENTIALS={made.service_account_path}")
