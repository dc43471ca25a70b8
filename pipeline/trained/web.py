"""The page of `versus page`, for browsers of this machine alone.

Starlette and uvicorn are here with MLflow's own server. Gradio would have brought some thirty packages more, a copy of
every image in a folder of its own and fonts from elsewhere, to a page of one image and one question.

Nothing is fetched from anywhere and nothing is kept: the browser sends a file's bytes, which are decoded in memory by
the one place that opens images. Another site that the browser has open can neither ask (a POST has to be of a kind that
browsers ask leave for, which nobody gives) nor reach the page by a name of its own (hosts are known).
"""

import socket
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.base.errors import StageError, legible
from pipeline.images.picture import MOST_BYTES
from pipeline.trained.side_by_side import SideBySide

HOST = "127.0.0.1"
FILES = {"": "page.html", "page.js": "page.js", "page.css": "page.css"}  # path -> file beside this one
BYTES = "application/octet-stream"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def app(models: SideBySide) -> Starlette:
    """The page at `/`, and `/answers`, which takes an image file's bytes and gives what the models say, in JSON."""

    async def answers(request: Request) -> Response:
        if request.headers.get("content-type") != BYTES:
            return _refused("send an image file's bytes", 415)
        try:
            content = await _content(request)
            found = await run_in_threadpool(models.ask, content)
        except StageError as error:
            return _refused(str(error), 422)
        except Exception as error:  # nobody foresaw it: the page says so, and goes on
            return _refused(f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}", 500)
        return JSONResponse(found, headers=HEADERS)

    def told(_: Request) -> Response:
        names = [model.name for model in models.models]
        return JSONResponse({"study": models.study, "models": names}, headers=HEADERS)

    pages = [Route(f"/{path}", _page(name)) for path, name in FILES.items()]
    routes = [*pages, Route("/study", told), Route("/answers", answers, methods=["POST"])]
    known = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[known])


def serve(models: SideBySide, listening: socket.socket) -> None:
    """Answer at a socket until the process is asked to end."""
    import uvicorn

    uvicorn.Server(uvicorn.Config(app(models), log_level="warning")).run(sockets=[listening])


def listen(port: int) -> socket.socket:
    """A socket of this machine alone; raises StageError where another process has the port."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise StageError(f"--port {port}: {getattr(error, 'strerror', error)}; choose another") from None
    return listening


async def _content(request: Request) -> bytes:
    """The body, of which no more is held than an image file may have."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise StageError(f"this file: larger than {MOST_BYTES >> 20} MiB, which no image to compare should be")
    if not content:
        raise StageError("this file: it is empty")
    return bytes(content)


def _page(name: str):
    return lambda _: FileResponse(Path(__file__).parent / "page" / name, headers=HEADERS)


def _refused(reason: str, status: int) -> JSONResponse:
    return JSONResponse({"error": legible(reason)}, status, headers=HEADERS)
