package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	// How long a call may go on after the end before it counts as failed.
	grace = 30 * time.Second
	// How many events of a stream may be unanswered: well beyond what the server takes at once, so that it never waits.
	outstanding = 1024
)

// raw hands messages through as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) {
	return *message.(*[]byte), nil
}

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = data
	return nil
}

func (g *group) connect() ([]*grpc.ClientConn, error) {
	connections := make([]*grpc.ClientConn, g.Connections)
	for index := range connections {
		connection, err := grpc.NewClient(
			"passthrough:///"+g.Target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)),
			grpc.WithDisableServiceConfig(),
		)
		if err != nil {
			return nil, err
		}
		connections[index] = connection
	}
	return connections, nil
}

func (g *group) grpcUnary() (sender, error) {
	connections, err := g.connect()
	if err != nil {
		return nil, err
	}
	contexts := g.contexts()
	return func(c *caller, note *notes, until time.Time) error {
		connection := connections[c.index%len(connections)]
		stop := time.AfterFunc(time.Until(until)+grace, func() { connection.Close() })
		defer stop.Stop()
		return g.repeat(c, note, until, func() (int, error) {
			ctx := contexts(c.headers())
			request := c.next(g.EventsPerCall)
			var response []byte
			return g.EventsPerCall, connection.Invoke(ctx, g.Method, &request, &response)
		})
	}, nil
}

func (g *group) grpcStream() (sender, error) {
	connections, err := g.connect()
	if err != nil {
		return nil, err
	}
	contexts := g.contexts()
	return func(c *caller, note *notes, until time.Time) error {
		ctx, cancel := context.WithDeadline(contexts(c.headers()), until.Add(grace))
		defer cancel()
		stream, err := connections[c.index%len(connections)].NewStream(
			ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, g.Method,
		)
		if err != nil {
			return err
		}
		sent := make(chan time.Time, outstanding)
		go func() {
			defer close(sent)
			for time.Now().Before(until) {
				request := c.next(1)
				sent <- time.Now()
				if stream.SendMsg(&request) != nil {
					return // the receiver learns why
				}
			}
			_ = stream.CloseSend()
		}()
		return receive(stream, sent, note)
	}, nil
}

func receive(stream grpc.ClientStream, sent <-chan time.Time, note *notes) error {
	for {
		var response []byte
		if err := stream.RecvMsg(&response); errors.Is(err, io.EOF) {
			if unanswered := len(sent); unanswered > 0 {
				return fmt.Errorf("the stream ended with %d events unanswered", unanswered)
			}
			return nil
		} else if err != nil {
			return err
		}
		if !isReceipt(response) {
			return fmt.Errorf("an event was refused: %q", response)
		}
		note.answered(<-sent, 1)
	}
}

// isReceipt tells whether an IngestEventsResponse holds field 2, the receipt; field 1 before it is a number.
func isReceipt(response []byte) bool {
	if len(response) > 0 && response[0] == 1<<3 {
		for response = response[1:]; len(response) > 0 && response[0] >= 0x80; {
			response = response[1:]
		}
		response = response[min(1, len(response)):]
	}
	return len(response) > 0 && response[0] == 2<<3|2
}

// contexts makes one context per set of headers, once.
func (g *group) contexts() func(headers map[string]string) context.Context {
	made := map[string]context.Context{}
	for _, headers := range g.Headers {
		made[headers["authorization"]] = metadata.NewOutgoingContext(context.Background(), metadata.New(headers))
	}
	return func(headers map[string]string) context.Context { return made[headers["authorization"]] }
}

func (g *group) rest() sender {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: g.Callers}, Timeout: grace}
	return func(c *caller, note *notes, until time.Time) error {
		return g.repeat(c, note, until, func() (int, error) {
			headers := c.headers()
			request, err := http.NewRequest(http.MethodPost, g.Target, bytes.NewReader(c.next(1)))
			if err != nil {
				return 0, err
			}
			request.Header.Set("content-type", "application/json")
			for name, value := range headers {
				request.Header.Set(name, value)
			}
			response, err := client.Do(request)
			if err != nil {
				return 0, err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err == nil && response.StatusCode != http.StatusOK {
				err = fmt.Errorf("HTTP status %d: %s", response.StatusCode, body)
			}
			return 1, err
		})
	}
}
