"""TLS for both transports; files that cannot be used stop the start, with their place in the configuration."""

import ssl
from pathlib import Path

import grpc

from otel_usageflow.errors import StartError
from otel_usageflow.receivers.otlp.config import Tls

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def ssl_context(tls: Tls, path: str) -> ssl.SSLContext:
    """For HTTP.

    Raises:
        StartError: a file is missing, unreadable, or not what it should be. `path` is the section's.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _VERSIONS[tls.min_version]
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise StartError(
            f"{path}: cannot use cert_file {tls.cert_file} with key_file {tls.key_file}: {error}"
        ) from error
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except (OSError, ValueError) as error:
            raise StartError(f"{path}::client_ca_file: cannot use {tls.client_ca_file}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def grpc_credentials(tls: Tls, path: str) -> grpc.ServerCredentials:
    """For gRPC, which says nothing about what is wrong with a file; so the files are tried out first.

    Raises:
        StartError: as `ssl_context`.
    """
    ssl_context(tls, path)
    roots = None if tls.client_ca_file is None else Path(tls.client_ca_file).read_bytes()
    pair = (Path(tls.key_file).read_bytes(), Path(tls.cert_file).read_bytes())
    return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=roots is not None)
