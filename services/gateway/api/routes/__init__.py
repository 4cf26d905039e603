"""FastAPI reads annotations while it builds routes, so these modules do not postpone theirs."""
