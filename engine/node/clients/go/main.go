package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"sample/aof2"
)

func main() {
	socket, stream, records := os.Args[1], os.Args[2], os.Args[3:]
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := aof2.NewLogClient(connection)
	since := uint64(0)
	described, err := client.Describe(context.Background(), &aof2.DescribeRequest{Stream: stream})
	if err == nil {
		since = described.Info.DurableSequence
	} else if status.Code(err) != codes.NotFound {
		log.Fatal(err)
	}
	producer, stored := rand.Uint64()|1, uint64(0)
	for stored < uint64(len(records)) {
		next, err := send(client, stream, records, producer, since, stored)
		code := status.Code(err)
		if err != nil && code != codes.Unavailable && code != codes.DeadlineExceeded {
			log.Fatal(err)
		}
		if stored = next; stored < uint64(len(records)) {
			time.Sleep(200 * time.Millisecond)
		}
	}
	batches, err := client.Read(context.Background(), &aof2.ReadRequest{Stream: stream})
	for err == nil {
		var batch *aof2.RecordBatch
		if batch, err = batches.Recv(); err == nil {
			for _, record := range batch.Records {
				fmt.Println(record.Sequence, string(record.Payload))
			}
		}
	}
	if err != io.EOF {
		log.Fatal(err)
	}
}

// Sends records from number stored on, and answers how many are stored then.
func send(client aof2.LogClient, stream string, records []string, producer, since, stored uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	call, err := client.Append(ctx)
	if err != nil {
		return stored, err
	}
	go func() {
		for seq := stored; seq < uint64(len(records)); seq++ {
			request := &aof2.AppendRequest{
				Stream: stream, Payloads: [][]byte{[]byte(records[seq])},
				ProducerId: producer, ProducerSeq: seq, ProducerSince: since, RequestId: seq,
			}
			if call.Send(request) != nil {
				return
			}
		}
		call.CloseSend()
	}()
	for {
		answer, err := call.Recv()
		if err == io.EOF {
			return stored, nil
		} else if err != nil {
			return stored, err
		}
		refused := answer.GetRefused()
		switch {
		case refused == nil:
			stored = answer.RequestId + 1
		case refused.Reason == aof2.Reason_ALREADY_APPENDED:
			stored = refused.NextProducerSeq
		case refused.Retryable || refused.Reason == aof2.Reason_SEQUENCE_GAP:
			return stored, nil // what is behind it is refused too: send again from there
		default:
			log.Fatalf("%s: %s", refused.Reason, refused.Message)
		}
	}
}
