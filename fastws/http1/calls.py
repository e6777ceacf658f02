"""Calling an HTTP resource: its arguments out of the request, and a response out of its result."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Any

from ..service.model import REQUIRED
from .files import Answer, FileResponse
from .response import Refuse, Response, phrase

if TYPE_CHECKING:
    from ..service.model import Argument, Resource
    from .request import Request

__all__ = ["ResourceCall", "to_response"]


class ResourceCall:
    """The call of a resource that answers a request.

    Attributes:
        owner: whose clients a broadcast of the handler goes to: those of the service of this resource.
        handler: what is called.
    """

    __slots__ = ("_arguments", "_request", "handler", "owner")

    def __init__(self, resource: Resource, request: Request) -> None:
        self.owner = resource
        self.handler = resource.handler
        self._arguments = resource.arguments
        self._request = request

    def run(self) -> Any:
        """Call it with the arguments that it names; what it returns is awaited if that can be.

        Raises:
            Refuse: 404 for a path segment and 400 for a query parameter or body that cannot be converted.
            Exception: whatever the resource raises.
        """
        handler, arguments, request = self.handler, self._arguments, self._request
        positional = [_value(arguments[name], request) for name in handler.positional]
        keywords = {name: _value(arguments[name], request) for name in handler.keywords}
        return handler.function(*positional, **keywords)

    def conclude(self, result: object) -> Response:
        """Make a response of what came of it."""
        return to_response(result)


def _value(argument: Argument, request: Request) -> object:
    if argument.source == "path":
        return _path_value(argument, request.path_parameters[argument.name])
    if argument.source == "query":
        return _query_value(argument, request.query.get(argument.name))
    if argument.source == "json":
        return request.json()
    return request if argument.source == "request" else getattr(request, argument.source)


def _path_value(argument: Argument, text: str) -> object:
    try:
        return argument.convert(text)
    except ValueError:
        # Such a segment names no resource.
        raise Refuse(404) from None


def _query_value(argument: Argument, text: str | None) -> object:
    if text is None:
        if argument.default is REQUIRED:
            raise Refuse(400, argument.missing)
        return argument.default
    try:
        return argument.convert(text)
    except ValueError:
        raise Refuse(400, argument.malformed) from None


# --- Results.


def to_response(result: object) -> Response:
    """Make a response of what a resource returned.

    Raises:
        TypeError: it is nothing that JSON can say.
        ValueError: it holds itself, or NaN.
    """
    if isinstance(result, Response):
        return result
    if isinstance(result, Answer):
        return _of_file(result)
    if result is None:
        return Response(status=204)
    if isinstance(result, (str, bytes, bytearray, memoryview)):
        return Response(result)
    body = jsonlib.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, headers=(("Content-Type", "application/json"),))


def _of_file(answer: Answer) -> Response:
    status, fields, file, start, length = answer
    if file is not None:
        response: Response = FileResponse(file, start, length, status)
    else:
        response = Response(b"" if status == 304 else phrase(status) + "\n", status)
    response.headers.extend(fields)
    return response
