import secrets, sys, time
import grpc, aof2_pb2 as pb, aof2_pb2_grpc as rpc

socket, stream, records = sys.argv[1], sys.argv[2], [s.encode() for s in sys.argv[3:]]
producer_id = secrets.randbits(63) + 1


def durable_upto(log):
    try:
        return log.Describe(pb.DescribeRequest(stream=stream)).info.durable_sequence
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return 0
        raise


with grpc.insecure_channel("unix:" + socket) as channel:
    log = rpc.LogStub(channel)
    since, stored = durable_upto(log), 0
    while stored < len(records):
        requests = [
            pb.AppendRequest(stream=stream, payloads=[records[seq]], producer_id=producer_id,
                             producer_seq=seq, producer_since=since, request_id=seq)
            for seq in range(stored, len(records))
        ]
        try:
            for answer in log.Append(iter(requests), timeout=30):
                refused = answer.refused
                if answer.HasField("appended"):
                    stored = answer.request_id + 1
                elif refused.reason == pb.ALREADY_APPENDED:
                    stored = refused.next_producer_seq
                elif refused.retryable or refused.reason == pb.SEQUENCE_GAP:
                    break  # what is behind it is refused too: send again from there
                else:
                    sys.exit(f"{pb.Reason.Name(refused.reason)}: {refused.message}")
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
        if stored < len(records):
            time.sleep(0.2)
    for batch in log.Read(pb.ReadRequest(stream=stream)):
        for record in batch.records:
            print(record.sequence, record.payload.decode())
