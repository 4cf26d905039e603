"""A tool that refuses wrong and unknown arguments with a sentence; the MCP library ignores unknown ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase
    from mcp_types import ToolAnnotations
    from pydantic_core import ErrorDetails

_LONGEST_NAME = 40
_MOST_NAMES = 3


class StrictTool(Tool):
    """A tool that refuses unknown arguments, also by its schema. Make one with `strict_tool`."""

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:  # noqa: FBT001, FBT002 (the library's signature)
        """Run the tool. Raises ToolError with a sentence for each argument that is wrong."""
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(self._describe(error.__cause__.errors(include_url=False))) from None
            raise

    def _describe(self, errors: Sequence[ErrorDetails]) -> str:
        unknown = [_shorten(str(error["loc"][0])) for error in errors if error["type"] == "extra_forbidden"]
        sentences = [_sentence(error) for error in errors if error["type"] != "extra_forbidden"][:_MOST_NAMES]
        if unknown:
            names, known = ", ".join(unknown[:_MOST_NAMES]), ", ".join(self.fn_metadata.arg_model.model_fields)
            sentences.append(f"Unknown arguments: {names}. The tool {self.name} takes {known}.")
        return " ".join(sentences)


def strict_tool(function: Callable[..., Any], annotations: ToolAnnotations) -> Tool:
    """Return a function as a tool that takes its arguments and no others."""
    tool = StrictTool.from_function(function, annotations=annotations)
    strict = _forbid_others(tool.fn_metadata.arg_model)
    metadata = tool.fn_metadata.model_copy(update={"arg_model": strict})
    return tool.model_copy(update={"fn_metadata": metadata, "parameters": strict.model_json_schema(by_alias=True)})


def _forbid_others(model: type[ArgModelBase]) -> type[ArgModelBase]:
    return type(model.__name__, (model,), {"__module__": __name__}, extra="forbid")


def _sentence(error: ErrorDetails) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"The argument {place} is missing."
    return f"The argument {place} is not valid: {error['msg'][:1].lower()}{error['msg'][1:]}."


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
