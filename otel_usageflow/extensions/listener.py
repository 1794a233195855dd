"""Opening the port of an extension that serves HTTP."""

import ssl

from aiohttp import web

from otel_usageflow.config.types import HostPort
from otel_usageflow.errors import CannotListen


async def listen(
    server: web.Server, path: str, endpoint: HostPort, tls: ssl.SSLContext | None = None
) -> tuple[web.ServerRunner, HostPort]:
    """Serve until the runner is cleaned up; also where it listens, with the bound port.

    Args:
        path: of the extension in the configuration.

    Raises:
        CannotListen: the port cannot be opened; nothing is left open.
    """
    runner = web.ServerRunner(server, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, endpoint.host, endpoint.port, ssl_context=tls).start()
    except OSError as error:
        await runner.cleanup()
        raise CannotListen(f"{path}::endpoint", str(endpoint), error) from error
    return runner, HostPort(endpoint.host, runner.addresses[0][1])
