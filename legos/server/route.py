"""The base of every route: strict reading of bodies, and errors turned into answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from legos.errors import LegosError
from legos.server.refusals import Refusal, explain, show

_log = logging.getLogger("legos.server")


class _Json(Request):
    """A request whose JSON is read strictly: bounded in depth, no NaN, no key twice."""

    async def json(self) -> Any:
        """The body as Python objects."""
        body = await self.body()
        try:
            from_json(body, allow_inf_nan=False)  # whole characters, and not too deep for the next
            return json.loads(body, object_pairs_hook=_once)
        except ValueError as error:
            message = f"body: found no JSON ({error}), expected a JSON object"
            raise HTTPException(400, message) from None  # the only kind that FastAPI lets through


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Parse an object of a JSON text; ValueError: a key occurs twice."""
    found = dict[str, Any]()
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {show(name)} occurs twice")
        found[name] = value
    return found


class Route(APIRoute):
    """A route that reads bodies as :class:`_Json` and turns exceptions into answers."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()
        body: Any = self.body_field.field_info.annotation if self.body_field else None

        async def guarded(request: Request) -> Response:
            try:
                return await handle(_Json(request.scope, request.receive))
            except Refusal as refusal:
                return refusal.response()
            except RequestValidationError as error:
                return explain(error.errors(), body).response()
            except LegosError as error:
                return Refusal(422, " ".join(str(error).split())).response()
            except HTTPException as error:
                return Refusal(error.status_code, error.detail).response()
            except Exception:
                _log.exception("%s %s failed", request.method, request.url.path)
                message = "internal server error; see its log"
                return Refusal(500, message).response()

        return guarded
