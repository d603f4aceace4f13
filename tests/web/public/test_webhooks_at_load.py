"""The receiver in a process of its own: what it answered is stored, even when it is killed in mid-storm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
import urllib3
from controltower import clock
from controltower.ledger import tables
from controltower.ledger.database import begin
from controltower.settings import Settings
from support import webhooks

BODIES, KILLED_AFTER, THREADS = 600, 150, 16


@pytest.mark.slow
def test_a_receiver_killed_in_mid_storm_loses_nothing_that_it_answered(ledger_settings: Settings) -> None:
    private, public = webhooks.keypair()
    with begin(ledger_settings):
        pass  # the tables are there
    command = [sys.executable, "-m", "controltower.cli", "serve", "--port", "0"]
    environment = os.environ | {"CONTROLTOWER_SENDGRID_WEBHOOK_KEYS": public}
    app = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert app.stdout
        url = f"{app.stdout.readline().split()[2]}/webhooks/sendgrid"
        pool = urllib3.PoolManager(maxsize=THREADS, retries=False)
        answered: set[bytes] = set()
        lock = threading.Lock()

        def post(number: int) -> None:
            body = f'[{{"event": "delivered", "sg_event_id": "{number}"}}]'.encode()
            headers = webhooks.sign(private, int(clock.wall()), body)
            try:
                answer = pool.request("POST", url, body=body, headers=headers)
            except urllib3.exceptions.HTTPError:
                return  # it was killed: SendGrid would post again
            with lock:
                if answer.status == 202:
                    answered.add(body)
                if len(answered) == KILLED_AFTER:
                    os.kill(app.pid, signal.SIGKILL)

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(post, range(BODIES)))
        assert app.wait(20) == -signal.SIGKILL
    finally:
        app.kill()
        app.wait()
    with begin(ledger_settings) as ledger:
        stored = set(ledger.execute(sa.select(tables.webhook_bodies.c.body)).scalars())
    assert KILLED_AFTER <= len(answered) < BODIES
    assert answered <= stored
