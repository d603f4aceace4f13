"""Every route of the two apps, and what guards it. A test walks both apps and holds them to this table."""

from __future__ import annotations

from typing import Final

# (method, path) -> guard. "open" shows nothing of anybody and changes nothing.
PUBLIC: Final[dict[tuple[str, str], str]] = {
    ("POST", "/webhooks/sendgrid"): "SendGrid's signature over timestamp and raw body, its age",
    ("POST", "/v1/events"): "API key of CONTROLTOWER_EVENTS_API_KEYS",
    ("GET", "/c{token}"): "link token for click; a signature over destination, product and position",
    ("HEAD", "/c{token}"): "link token for click; a signature over destination, product and position",
    ("GET", "/u{token}"): "link token for unsubscribe; changes nothing",
    ("POST", "/u{token}"): "link token for unsubscribe",
    ("GET", "/p{token}"): "link token for preferences; changes nothing",
    ("POST", "/p{token}"): "link token for preferences",
    ("GET", "/v{token}"): "link token for view; changes nothing",
    ("GET", "/v1/in-app"): "customer token, made with the key of the shop's backend; notes the delivery",
    ("POST", "/v1/in-app/{message_id}/seen"): "customer token of the message's own customer",
    ("GET", "/v1/recommendations"): "API key of CONTROLTOWER_EVENTS_API_KEYS; or a customer token, for that customer",
    ("GET", "/v1/page/recommendations"): "API key, which the shop's server adds; a customer's by customer token only",
    ("POST", "/v1/page/events"): "API key, which the shop's server adds; impressions and clicks of lists only",
    ("GET", "/recommend.js"): "open",
    ("GET", "/health"): "open",
    ("GET", "/style.css"): "open",
}
TOWER: Final[dict[tuple[str, str], str]] = {
    ("GET", "/"): "Airflow's log-in; lists what the user may read",
    ("GET", "/campaigns/{name}"): "Airflow's permission to read the campaign's DAG",
    ("GET", "/campaigns/{name}/preview"): "Airflow's permission to read the campaign's DAG",
    ("GET", "/runs/{run_id}"): "Airflow's permission to read the campaign's DAG",
    ("GET", "/runs/{run_id}/samples"): "Airflow's permission to read the campaign's DAG",
    (
        "POST",
        "/runs/{run_id}/{action}",
    ): "Airflow's permission to trigger the campaign's DAG, our own page, a form token",
    ("GET", "/segments"): "Airflow's log-in; counts of all customers, of no campaign",
    ("GET", "/lifecycle"): "Airflow's log-in; counts of all customers, of no campaign",
    ("GET", "/models"): "Airflow's log-in; figures of models, of no customer",
    ("GET", "/models/{model}"): "Airflow's log-in; figures of models, of no customer",
    ("GET", "/style.css"): "Airflow's log-in",
    ("GET", "/report.css"): "Airflow's log-in",
    ("GET", "/icon.svg"): "Airflow's log-in",
    ("GET", "/icon-dark.svg"): "Airflow's log-in",
}
