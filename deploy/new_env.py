"""Print a .env for compose.yaml: .env.example with a secret of its own for each variable that wants one.

`python3 deploy/new_env.py`; needs nothing but Python. A value `<hex>`, `<password>` or `<fernet>` in .env.example is
replaced; all others stay.
"""

from __future__ import annotations

import base64
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / ".env.example"
MAKERS = {
    "<hex>": lambda: secrets.token_hex(32),  # stands in URLs too, so: letters and digits only
    "<password>": lambda: secrets.token_urlsafe(15),
    "<fernet>": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}


def fill(example: str) -> str:
    return re.sub(r"(?m)(?<==)<\w+>$", lambda found: MAKERS[found[0]](), example)


if __name__ == "__main__":
    sys.stdout.write(fill(EXAMPLE.read_text(encoding="utf-8")))
