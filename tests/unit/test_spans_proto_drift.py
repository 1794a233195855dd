"""The committed code of our schema is what the schema says, on OTLP's wire."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_usageflow.proto.spans.v1 import spans_pb2

ROOT = Path(__file__).parents[2]
SCHEMA = "otel_usageflow/proto/spans/v1/spans.proto"
OFFICIAL = {
    "Request": trace_service_pb2.ExportTraceServiceRequest,
    "ResourceSpans": trace_pb2.ResourceSpans,
    "Resource": resource_pb2.Resource,
    "ScopeSpans": trace_pb2.ScopeSpans,
    "Scope": common_pb2.InstrumentationScope,
    "Span": trace_pb2.Span,
    "KeyValue": common_pb2.KeyValue,
    "AnyValue": common_pb2.AnyValue,
    "ArrayValue": common_pb2.ArrayValue,
}
LENGTH_DELIMITED = {9, 11, 12}
VARINT = {3, 5, 8, 14}


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools is not installed; see proto/README.md")
def test_the_committed_code_is_the_schema(tmp_path: Path) -> None:
    """Compiling the schema gives the descriptor that is committed."""
    out = tmp_path / "schema.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}", f"-o{out}", SCHEMA]
    subprocess.run(command, check=True)
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    for message in compiled.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc writes it into files only
    committed = FileDescriptorProto()
    spans_pb2.DESCRIPTOR.CopyToProto(committed)
    assert compiled == committed


def test_every_message_of_the_schema_is_compared() -> None:
    """A message that is added to the schema has to be compared with OTLP's here."""
    assert set(spans_pb2.DESCRIPTOR.message_types_by_name) == set(OFFICIAL)


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_our_fields_are_those_of_otlp(name: str) -> None:
    """Every field has OTLP's name and number, and a type with the same wire form."""
    official = {field.name: field for field in declared(OFFICIAL[name].DESCRIPTOR).field}
    for field in declared(spans_pb2.DESCRIPTOR.message_types_by_name[name]).field:
        theirs = official[field.name]
        assert (field.number, field.label) == (theirs.number, theirs.label)
        same_form = [{field.type, theirs.type} <= form for form in (LENGTH_DELIMITED, VARINT)]
        assert field.type == theirs.type or any(same_form)


def declared(message: Descriptor) -> DescriptorProto:
    result = DescriptorProto()
    message.CopyToProto(result)
    return result
