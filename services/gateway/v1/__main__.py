"""Write the OpenAPI document of /v1 to docs/openapi-v1.json."""

from __future__ import annotations

from services.gateway.v1.routes.docs import SNAPSHOT, document

if __name__ == "__main__":
    SNAPSHOT.write_bytes(document())
