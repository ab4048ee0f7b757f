"""A protoc plugin that writes grpc service stubs by handing the request's descriptors to grpcio-tools."""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def main() -> int:
    """Read a CodeGeneratorRequest from standard input and answer it on standard output."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        services = [
            file.name for file in request.proto_file if file.name in set(request.file_to_generate) and file.service
        ]
        arguments = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={folder}", *services]
        if services and protoc.main(["protoc", *arguments]) != 0:  # type: ignore[no-untyped-call]
            response.error = "grpc_tools.protoc failed; its messages stand above"
        for path in sorted(Path(folder).rglob("*.py")):
            response.file.add(name=str(path.relative_to(folder)), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
