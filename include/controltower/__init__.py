"""Control Tower: open marketing automation on Apache Airflow."""

__version__ = "0.1.0"
