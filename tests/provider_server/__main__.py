"""`python -m provider_server [--port N] [--options JSON]`: prints `{"url": …}` once it listens, runs until stopped."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from provider_server.app import App
from provider_server.http1 import serve
from provider_server.options import Options


async def run(port: int, options: Options, *, until_stdin_ends: bool) -> None:
    app = App(options)
    server = await serve(app.handle, "127.0.0.1", port)
    app.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps({"url": app.base_url}), flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_ends:  # Whoever started it has died: so does it.
        loop.add_reader(sys.stdin.fileno(), lambda: stop.set() if not sys.stdin.buffer.read1(1) else None)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="provider_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--options", default="{}", help="JSON, the fields of options.Options")
    parser.add_argument("--until-stdin-ends", action="store_true")
    arguments = parser.parse_args()
    options = Options()
    options.update(json.loads(arguments.options))
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(arguments.port, options, until_stdin_ends=arguments.until_stdin_ends))


if __name__ == "__main__":
    main()
