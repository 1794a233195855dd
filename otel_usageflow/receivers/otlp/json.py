"""OTLP/JSON bodies: the text of a request to protobuf bytes, and answers to text."""

import json

from google.protobuf import json_format
from google.protobuf.message import Message

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.otlp_json import otlp_json_to_protobuf


def transcode(body: bytes) -> bytes:
    """Turn the text of an OTLP/JSON trace request into a serialized `ExportTraceServiceRequest`.

    Raises:
        InvalidData: not UTF-8, not JSON, or not a trace request.
    """
    try:
        document = json.loads(body.decode())
    except UnicodeDecodeError:
        raise InvalidData("cannot read the OTLP/JSON request: it is not UTF-8") from None
    except RecursionError:
        raise InvalidData("cannot read the OTLP/JSON request: it is nested too deeply") from None
    except ValueError as error:
        raise InvalidData(f"cannot read the OTLP/JSON request: {error}") from None
    return otlp_json_to_protobuf(document)


def to_json(message: Message) -> bytes:
    """Write an answer; it holds no ids, so that the generic JSON form is the right one."""
    return json_format.MessageToJson(message, indent=None).encode()
