"""An MCP server: tools with which language models edit photos. It uses only /v1, through the SDK in services/cli."""
