"""The routes. Errors are always JSON with a reason: 4xx where the request is at fault, 503 where
the server cannot do it now."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from resnets import __version__
from resnets.runtime.cores import usable_cores
from resnets.server import kserve
from resnets.server.bodies import discard_body, images_of, read_body
from resnets.server.limits import Limits, Refused
from resnets.server.page import Page
from resnets.server.predictions import Answer, Wanted, parse_draw, predict_images
from resnets.server.served import Served
from resnets.server.workers import Workers

T = TypeVar("T")
BODY = {  # bodies are read by hand, within their limits
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
TENSORS = {"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}}


class Json(JSONResponse):
    """JSON in ASCII: names of classes may hold what is not UTF-8."""

    def render(self, content: Any) -> bytes:
        """See `Response`."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_app(models: Sequence[Served], limits: Limits, threads: int = 1) -> FastAPI:
    """The server as an ASGI application.

    Args:
        models: What is served; the first one where a request names none.
        limits: Of each request.
        threads: Threads of one prediction, 0 for all cores: as many predictions run at a time as
            there are cores for.
    """
    workers = Workers(usable_cores() // threads or 1 if threads else 1, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()

    app = FastAPI(
        title="resnets",
        version=__version__,
        summary="Predictions of " + ", ".join(one.name for one in models),
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        default_response_class=Json,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_page(app)
    _add_health(app)
    _add_ours(app, {one.name: one for one in models}, workers)
    _add_kserve(app, {one.name: one for one in models}, workers)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return Json(error.to_dict(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        await discard_body(request)
        code = {404: "not_found", 405: "method"}.get(error.status_code, "http")
        message = f"{request.method} is not for this address; see /openapi.json"
        headers = dict(error.headers or {})
        return Json(Refused(0, code, message).to_dict(), error.status_code, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        await discard_body(request)
        first = error.errors()[0]
        message = f"{first['loc'][-1]}: {first['msg']}"
        return Json(Refused(0, "parameter", message).to_dict(), 422)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        message = f"a defect of resnets ({type(error).__name__}); its log says more"
        return Json(Refused(0, "defect", message).to_dict(), 500)


def _add_page(app: FastAPI) -> None:
    page = Page.read()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page.content, media_type="text/html", headers=page.headers)


def _add_health(app: FastAPI) -> None:
    """All files are proved before the server listens: whoever is answered, is answered ready."""

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        """Whether all files are open and proved."""
        return {"status": "ready"}

    @app.get("/v2/health/live")
    async def v2_live() -> dict[str, bool]:
        """KServe: whether the process is alive."""
        return {"live": True}

    @app.get("/v2/health/ready")
    async def v2_ready() -> dict[str, bool]:
        """KServe: whether all files are open and proved."""
        return {"ready": True}

    @app.get("/v2")
    async def v2_server() -> dict[str, Any]:
        """KServe: what this server is."""
        return {"name": "resnets", "version": __version__, "extensions": []}


def _find(models: dict[str, Served], name: str | None) -> Served:
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise Refused(
            404, "no_model", f"no model is called {name[:80]!r}; allowed: {', '.join(models)}"
        )
    return models[name]


async def _work(
    request: Request, workers: Workers, prepare: Callable[[bytes], Callable[[], T]]
) -> T:
    """Takes a place, receives the body, and works on it; a body that nobody asked for is received
    without being kept."""
    try:
        with workers.place() as place:
            body = await read_body(request, workers.limits)
            return await workers.run(place, prepare(body))
    except Refused as refused:
        if refused.status in (503, 413):
            await discard_body(request)
        raise


def _add_ours(app: FastAPI, models: dict[str, Served], workers: Workers) -> None:
    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """What each file is: network, task, classes, preprocessing, data, measured metrics."""
        return {"models": [one.describe() for one in models.values()]}

    @app.post("/v1/predict", openapi_extra=BODY)
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="Name; default: the first file")] = None,
        draw: Annotated[str, Query(description="overlay, heat, mask; with commas")] = "",
        top: Annotated[int, Query(ge=0, le=100_000, description="Classes to name")] = 5,
        accept: Annotated[str, Header()] = "*/*",
    ) -> Response:
        """Predictions for one image (its bytes) or several (the files of a form)."""
        as_png = "image/png" in accept and "json" not in accept

        def prepare(body: bytes) -> Callable[[], list[Answer]]:
            served = _find(models, model)
            wanted = Wanted(parse_draw(draw, served), top)
            images = images_of(body, request.headers.get("content-type", ""))
            if as_png and (len(images), len(wanted.draw)) != (1, 1):
                raise Refused(
                    422, "draw", "as image/png: one image, and one of " + ", ".join(served.draws)
                )
            return partial(predict_images, served, images, wanted, workers.limits)

        answers = await _work(request, workers, prepare)
        if as_png:
            (png,) = answers[0].images.values()
            return Response(png, media_type="image/png")
        name = _find(models, model).name
        return Json({"model": name, "predictions": [one.to_dict() for one in answers]})


def _add_kserve(app: FastAPI, models: dict[str, Served], workers: Workers) -> None:
    @app.get("/v2/models/{name}")
    async def v2_model(name: str) -> dict[str, Any]:
        """KServe: inputs and outputs of a file."""
        return kserve.metadata(_find(models, name))

    @app.get("/v2/models/{name}/ready")
    async def v2_model_ready(name: str) -> dict[str, Any]:
        """KServe: whether a file is open and proved."""
        return {"name": _find(models, name).name, "ready": True}

    @app.post("/v2/models/{name}/infer", openapi_extra=TENSORS)
    async def v2_infer(name: str, request: Request) -> Response:
        """KServe: outputs for a tensor `image`, UINT8 [N, H, W, C] or BYTES [N] in base64."""

        def prepare(body: bytes) -> Callable[[], bytes]:
            served = _find(models, name)

            def work() -> bytes:  # large tensors are written on the worker too
                found = kserve.infer(served, body, workers.limits)
                return json.dumps(found, allow_nan=False).encode("ascii")

            return work

        return Response(await _work(request, workers, prepare), media_type="application/json")
