# Airflow with Control Tower: `docker build -t control-tower .`; compose.yaml runs it.
# One image for every part: api-server, scheduler, dag-processor, triggerer, workers, the public app;
# `python -m controltower.cli` is the command line.
FROM apache/airflow:3.3.2-python3.11

# LightGBM's OpenMP library
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
USER airflow

COPY --chown=airflow:root requirements.txt /opt/airflow/requirements.txt
RUN pip install --no-cache-dir --require-hashes -r /opt/airflow/requirements.txt

COPY --chown=airflow:root include /opt/airflow/include
COPY --chown=airflow:root dags /opt/airflow/dags
COPY --chown=airflow:root plugins /opt/airflow/plugins
COPY --chown=airflow:root deploy /opt/airflow/deploy

# An empty volume takes owner and mode of the folder that it is mounted on: the image's user, airflow.
RUN mkdir -p /opt/airflow/home /opt/airflow/logs && chmod 700 /opt/airflow/home

ENV PYTHONPATH=/opt/airflow/include \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1
