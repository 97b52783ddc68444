"""A real server process with nothing but the storage routes: `python storage_server.py SETTINGS_JSON PORT [FSIZE]`.

Prints its port once it listens. FSIZE limits the size of any file it may write (bytes): a disk that is full.
"""

import json
import resource
import socket
import sys

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from brightrun.errors import BrightRunError
from brightrun.logs import configure_logging
from brightrun.settings import Settings
from brightrun.storage import open_store
from brightrun.storage.api import router

SECRET = b"a secret of the tests, 32 bytes!"


def main() -> None:
    configure_logging("info", "json")
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[2])))
    listener.listen(128)
    port = listener.getsockname()[1]

    app = FastAPI(max_body_size=1024)  # the limit of ordinary routes must not reach uploads
    app.include_router(router)
    settings = Settings(**json.loads(sys.argv[1]))
    app.state.store = open_store(settings, public_url=f"http://127.0.0.1:{port}", secret=SECRET)

    @app.exception_handler(BrightRunError)
    async def as_json(_request: Request, error: BrightRunError) -> JSONResponse:
        body = {"error": error.message, "code": error.code, "details": error.details}
        return JSONResponse(body, status_code=error.status)

    print(port, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2)).run(sockets=[listener])


if __name__ == "__main__":
    main()
