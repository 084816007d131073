import aof2.v1.Aof2.*;
import aof2.v1.LogGrpc;
import com.google.protobuf.ByteString;
import io.grpc.*;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.StreamObserver;
import io.netty.channel.epoll.*;
import io.netty.channel.unix.DomainSocketAddress;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Sample {
  public static void main(String[] args) throws Exception {
    var records = List.of(args).subList(2, args.length);
    var group = new EpollEventLoopGroup(1);
    var channel = NettyChannelBuilder.forAddress(new DomainSocketAddress(args[0]))
        .eventLoopGroup(group).channelType(EpollDomainSocketChannel.class).usePlaintext().build();
    var log = LogGrpc.newBlockingStub(channel);
    long since = 0;
    try {
      var described = log.describe(DescribeRequest.newBuilder().setStream(args[1]).build());
      since = described.getInfo().getDurableSequence();
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() != Status.Code.NOT_FOUND) throw error;
    }
    long producer = ThreadLocalRandom.current().nextLong(1, Long.MAX_VALUE);
    var stored = new AtomicLong();
    while (stored.get() < records.size()) {
      send(channel, args[1], records, producer, since, stored);
      if (stored.get() < records.size()) Thread.sleep(200);
    }
    var range = ReadRequest.newBuilder().setStream(args[1]).build();
    log.read(range).forEachRemaining(batch -> batch.getRecordsList().forEach(
        record -> System.out.println(record.getSequence() + " " + record.getPayload().toStringUtf8())));
    channel.shutdownNow();
    group.shutdownGracefully(0, 0, TimeUnit.SECONDS);
  }

  // One call with everything that is not stored yet. A call that breaks, or a refusal that may be retried, ends it.
  static void send(Channel channel, String stream, List<String> records, long producer, long since,
      AtomicLong stored) throws Exception {
    var done = new CompletableFuture<Void>();
    var log = LogGrpc.newStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
    var requests = log.append(new StreamObserver<AppendResponse>() {
      public void onNext(AppendResponse answer) {
        var refused = answer.getRefused();
        if (answer.hasAppended()) {
          stored.set(answer.getRequestId() + 1);
        } else if (refused.getReason() == Reason.ALREADY_APPENDED) {
          stored.set(refused.getNextProducerSeq());
        } else if (refused.getRetryable() || refused.getReason() == Reason.SEQUENCE_GAP) {
          done.complete(null); // what is behind it is refused too: send again from there
        } else {
          done.completeExceptionally(new IllegalStateException(refused.getReason() + ": " + refused.getMessage()));
        }
      }
      public void onError(Throwable error) {
        var code = Status.fromThrowable(error).getCode();
        if (code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED) done.complete(null);
        else done.completeExceptionally(error);
      }
      public void onCompleted() { done.complete(null); }
    });
    for (long seq = stored.get(); seq < records.size(); seq++) {
      requests.onNext(AppendRequest.newBuilder().setStream(stream)
          .addPayloads(ByteString.copyFromUtf8(records.get((int) seq)))
          .setProducerId(producer).setProducerSeq(seq).setProducerSince(since).setRequestId(seq).build());
    }
    requests.onCompleted();
    done.get();
  }
}
