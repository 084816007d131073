"""reflect.py SOCKET: the services that reflection lists, as grpcio asks (v1alpha) and in v1."""
import sys
import grpc
from grpc_reflection.v1alpha import reflection_pb2 as r
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

with grpc.insecure_channel("unix:" + sys.argv[1]) as channel:
    print("v1alpha", *sorted(ProtoReflectionDescriptorDatabase(channel).get_services()))
    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=r.ServerReflectionRequest.SerializeToString,
        response_deserializer=r.ServerReflectionResponse.FromString,
    )
    answer = next(call(iter([r.ServerReflectionRequest(list_services="")]), timeout=10))
    print("v1", *sorted(service.name for service in answer.list_services_response.service))
