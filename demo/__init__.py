"""`make demo`: a shop's day through Airflow, ending with a summary. Nothing here is part of the product."""
