"""Which customer ids, log-ins, addresses, cards and visitors are one person."""
