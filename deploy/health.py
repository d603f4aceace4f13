"""Exit 0 where the API server has heard from a part of Airflow lately: `python deploy/health.py triggerer`.

compose.yaml's health checks of the parts that serve no HTTP. `airflow jobs check` says the same, but loads all of
Airflow for it: that took 11 s on two busy cores, this .2 s.
"""

from __future__ import annotations

import json
import sys
from urllib.request import urlopen

URL = "http://airflow-apiserver:8080/api/v2/monitor/health"

if __name__ == "__main__":
    with urlopen(URL, timeout=5) as answer:
        status = json.load(answer)[sys.argv[1]]["status"]
    sys.exit(None if status == "healthy" else f"{sys.argv[1]}: {status}")
