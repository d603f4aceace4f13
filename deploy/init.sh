#!/usr/bin/env bash
# What the service airflow-init does before the others start, at every `docker compose up`: it may run again and again.
set -euo pipefail
airflow db migrate
python -m controltower.cli migrate
airflow pools import "$AIRFLOW_HOME/dags/pools.json"
python "$AIRFLOW_HOME/deploy/accounts.py"
