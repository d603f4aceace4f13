"""`controltower serve|customer-token`: the public app, that providers, customers and the shop's app reach."""

from __future__ import annotations

import errno
import socket
from datetime import timedelta
from typing import Annotated

import typer

from controltower import clock, settings
from controltower.errors import BadSettings

# Seconds that an unused connection stays open: longer than proxies and load balancers keep theirs (60), so that they
# close it. Where we close it first, a request that is on its way already comes back as a reset.
KEEP_ALIVE = 75


def serve(
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one")] = 8090,
) -> None:
    """The public app: webhooks, links of messages, unsubscribing, preferences; runs until Ctrl-C."""
    import uvicorn

    from controltower.web.public.app import create_app

    conf = settings.load()
    listener = _bind(host, port)
    print(f"public app: http://{_shown(host)}:{listener.getsockname()[1]} (Ctrl-C ends it)")
    print(f"  customers reach it at {conf.public_url}, as CONTROLTOWER_PUBLIC_URL says", flush=True)
    # No access log: the links' paths are secrets.
    config = uvicorn.Config(
        create_app(conf), log_level="warning", access_log=False, server_header=False,
        timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=5,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has shut down by now and passes the signal on
        return
    finally:
        listener.close()


def customer_token(
    customer: Annotated[str | None, typer.Argument(help="the customer's id")] = None,
    hours: Annotated[int, typer.Option(min=1, help="how long it is valid")] = 24,
    key: Annotated[bool, typer.Option("--key", help="print the key that the shop's backend makes tokens with")] = False,
) -> None:
    """Print a token with which the shop's app fetches a customer's in-app messages."""
    from controltower.content import customer_tokens
    from controltower.ledger.database import check_key

    conf = settings.load()
    if key == (customer is not None):
        raise BadSettings("Either a customer's id or --key is needed.")
    check_key(conf)
    secret = conf.signing_key()
    if customer is None:
        print(customer_tokens.customer_key(secret))
    else:
        print(customer_tokens.sign_customer(secret, customer, clock.now(conf) + timedelta(hours=hours)))


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; BadSettings where the port is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as e:
        listener.close()
        if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
            raise BadSettings(f"Port {port} is in use.", "Choose another with --port, or 0 for a free one.") from None
        raise BadSettings(f"The public app can't listen on {host}:{port}: {e}.") from None
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - only compared
