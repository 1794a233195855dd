"""The configuration of the `otlp` receiver: the Collector's keys, as far as they have an effect here."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from otel_usageflow.config.types import ConfigModel, Duration, Endpoint, HostPort


class Tls(ConfigModel):
    """TLS for a server; with `client_ca_file`, clients must show a certificate (mTLS)."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None
    min_version: Annotated[Literal["1.2", "1.3"], BeforeValidator(str)] = "1.2"


class Auth(ConfigModel):
    """Which extension is asked who calls."""

    authenticator: str


class ServerParameters(ConfigModel):
    """Keepalive pings and the age of connections; what is not given is gRPC's own default."""

    max_connection_idle: Duration | None = None
    max_connection_age: Duration | None = None
    max_connection_age_grace: Duration | None = None
    time: Duration | None = None
    timeout: Duration | None = None


class EnforcementPolicy(ConfigModel):
    """How often clients may ping before the connection is closed."""

    min_time: Duration | None = None
    permit_without_stream: bool = False


class Keepalive(ConfigModel):
    """The Collector's `keepalive` section."""

    server_parameters: ServerParameters = ServerParameters()
    enforcement_policy: EnforcementPolicy = EnforcementPolicy()


class Cors(ConfigModel):
    """Which web pages may send spans. An origin may hold `*` for any run of characters."""

    allowed_origins: list[str] = []
    allowed_headers: list[str] = []
    exposed_headers: list[str] = []
    max_age: Annotated[int, Field(ge=0)] = 0
    """Seconds for which a browser may remember the answer; 0 leaves it to the browser."""


class Grpc(ConfigModel):
    """OTLP/gRPC."""

    endpoint: Endpoint = HostPort("127.0.0.1", 4317)
    max_recv_msg_size_mib: Annotated[int, Field(ge=1, le=1024)] = 64
    """The size of one request after decompression, in MiB."""
    max_concurrent_streams: Annotated[int, Field(ge=1)] | None = None
    """Calls in flight on one connection, without limit by default: gRPC clients that stand at the limit get an
    UNAVAILABLE now and then, which is safe but costs them a retry."""
    keepalive: Keepalive = Keepalive()
    tls: Tls | None = None
    auth: Auth | None = None

    @model_validator(mode="after")
    def _tls_version(self) -> Self:
        if self.tls is not None and self.tls.min_version != "1.2":
            raise ValueError("tls::min_version can only be 1.2 here: gRPC does not let it be set")
        return self


class Http(ConfigModel):
    """OTLP/HTTP."""

    endpoint: Endpoint = HostPort("127.0.0.1", 4318)
    traces_url_path: Annotated[str, Field(pattern="^/")] = "/v1/traces"
    max_request_body_size: Annotated[int, Field(ge=1, le=1024 * 1024 * 1024)] = 64 * 1024 * 1024
    """Bytes, before and after decompression."""
    read_timeout: Duration = timedelta(minutes=1)
    """The time for a request's body to arrive."""
    idle_timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(minutes=1)
    """The time for a request's headers to arrive, on a new connection and after each answer."""
    keep_alives_enabled: bool = True
    cors: Cors | None = None
    tls: Tls | None = None
    auth: Auth | None = None


class Protocols(ConfigModel):
    """At least one; `grpc:` with nothing below it turns the protocol on with its defaults."""

    grpc: Grpc | None = None
    http: Http | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.grpc is None and self.http is None:
            raise ValueError("name at least one protocol, grpc or http")
        return self


class Admission(ConfigModel):
    """How much the receiver takes in at once before it asks clients to come back."""

    request_limit_mib: Annotated[int, Field(ge=1)] = 32
    """The requests in flight on all transports together, in MiB after decompression, and 32 KiB for each. The service
    takes some three times that while it works on them. About as much as it commits in half a second."""


class OtlpConfig(ConfigModel):
    """`receivers: otlp:`."""

    protocols: Protocols
    admission: Admission = Admission()


REFERENCES = ("protocols::grpc::auth::authenticator", "protocols::http::auth::authenticator")
"""Where ids of extensions stand."""
