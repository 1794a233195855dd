"""The committed code of our part of CEL's checked expressions is what the schema says."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from otel_usageflow.proto.expressions.v1 import expressions_pb2

ROOT = Path(__file__).parents[2]
SCHEMA = "otel_usageflow/proto/expressions/v1/expressions.proto"


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools is not installed; see proto/README.md")
def test_the_committed_code_is_the_schema(tmp_path: Path) -> None:
    """Compiling the schema gives the descriptor that is committed."""
    out = tmp_path / "schema.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}", f"-o{out}", SCHEMA]
    subprocess.run(command, check=True)
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    committed = FileDescriptorProto()
    expressions_pb2.DESCRIPTOR.CopyToProto(committed)
    for message in compiled.message_type:
        for one in (message, *message.nested_type):
            for field in one.field:
                field.ClearField("json_name")  # protoc writes it into files only
    assert compiled == committed
