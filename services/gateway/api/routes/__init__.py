"""FastAPI evaluates the annotations of routes at import, so these modules do not postpone them."""
