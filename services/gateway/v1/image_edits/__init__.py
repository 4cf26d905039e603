"""`POST /v1/images/edits`, the operation of OpenAI's Images API, with our engines. docs/openai.md is for its users."""
