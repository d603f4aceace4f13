-- Run once, by the PostgreSQL image, in an empty data folder: one database for Airflow, one for the ledger, and for each
-- a role of its own, so that the app that strangers reach can't read Airflow's.
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv ledger_password LEDGER_DB_PASSWORD

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;

CREATE ROLE controltower LOGIN PASSWORD :'ledger_password';
CREATE DATABASE controltower OWNER controltower;
REVOKE CONNECT ON DATABASE controltower FROM PUBLIC;
