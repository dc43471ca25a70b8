"""`versus page`: a page of this machine where one drops an image and sees what every model says, and looks at."""

import argparse

from pipeline.base.numbers import natural

SUMMARY = "Open a local page: drop an image, see every model's answer and what it looks at"
EXAMPLE = "versus page --port 8080"
INTERRUPTED = "the page is closed, nothing was kept"
PORT = 8000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=natural, default=PORT, metavar="N", help=f"of this machine ({PORT}); 0: any")


def run(given: argparse.Namespace) -> None:
    from pipeline.base.quantities import enumerated
    from pipeline.trained import side_by_side, web

    models = side_by_side.SideBySide()
    listening = web.listen(given.port)
    names = enumerated([each.name for each in models.models])
    lacking = f", not {enumerated(models.lacking)}, whose weights are not here" if models.lacking else ""
    print(f"http://{web.HOST}:{listening.getsockname()[1]} with {names}{lacking}; Ctrl-C ends it", flush=True)
    web.serve(models, listening)
