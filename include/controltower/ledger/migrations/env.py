"""Alembic's entry: `database.migrate` hands over an open connection."""

from alembic import context
from controltower.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
