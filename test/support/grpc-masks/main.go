// A gRPC server whose replies are full of values, and a client that prints what it gets: for test/e2e/grpc.test.ts.
//
//	grpc-masks server CERT KEY          listens on 443
//	grpc-masks client ADDRESS [gzip]    one JSON line for each call
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

const (
	mail = "ada.lovelace@example.com"
	card = "card 4111 1111 1111 1111."
)

type server struct {
	testpb.UnimplementedTestServiceServer
}

func (server) UnaryCall(_ context.Context, asked *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if said := asked.GetResponseStatus(); said != nil {
		detailed, err := status.New(codes.Code(said.GetCode()), "no customer "+mail).WithDetails(&testpb.EchoStatus{Message: mail})
		if err != nil {
			return nil, err
		}
		return nil, detailed.Err()
	}
	return &testpb.SimpleResponse{
		Username: mail, OauthScope: "read " + mail + " only", Payload: &testpb.Payload{Body: []byte(card)},
	}, nil
}

func (server) StreamingOutputCall(asked *testpb.StreamingOutputCallRequest, out testpb.TestService_StreamingOutputCallServer) error {
	for range asked.GetResponseParameters() {
		if err := out.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte(card)}}); err != nil {
			return err
		}
	}
	return status.Error(codes.NotFound, "that was all for "+mail)
}

func (server) FullDuplexCall(both testpb.TestService_FullDuplexCallServer) error {
	for {
		asked, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body := append([]byte(card+" "), asked.GetPayload().GetBody()...)
		if err := both.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: body}}); err != nil {
			return err
		}
	}
}

func fail(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func serve(certFile, keyFile string) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	fail(err)
	listener, err := net.Listen("tcp", ":443")
	fail(err)
	made := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	testpb.RegisterTestServiceServer(made, server{})
	fail(made.Serve(listener))
}

func say(call string, values map[string]any) {
	values["call"] = call
	line, err := json.Marshal(values)
	fail(err)
	os.Stdout.Write(append(line, '\n'))
}

func statusOf(err error) map[string]any {
	said := status.Convert(err)
	details := []string{}
	for _, one := range said.Details() {
		if echo, ok := one.(*testpb.EchoStatus); ok {
			details = append(details, echo.GetMessage())
		}
	}
	return map[string]any{"code": int(said.Code()), "message": said.Message(), "details": details}
}

func ask(address string, options ...grpc.CallOption) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})), grpc.WithDefaultCallOptions(options...))
	fail(err)
	defer conn.Close()
	client := testpb.NewTestServiceClient(conn)

	one, err := client.UnaryCall(ctx, &testpb.SimpleRequest{FillUsername: true})
	fail(err)
	say("unary", map[string]any{
		"username": one.GetUsername(), "scope": one.GetOauthScope(), "body": string(one.GetPayload().GetBody()),
	})

	_, err = client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.NotFound)}})
	say("status", statusOf(err))

	sizes := make([]*testpb.ResponseParameters, 5)
	for at := range sizes {
		sizes[at] = &testpb.ResponseParameters{Size: 1}
	}
	stream, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseParameters: sizes})
	fail(err)
	bodies := []string{}
	for {
		part, err := stream.Recv()
		if err != nil {
			values := statusOf(err)
			values["bodies"] = bodies
			say("stream", values)
			break
		}
		bodies = append(bodies, string(part.GetPayload().GetBody()))
	}

	both, err := client.FullDuplexCall(ctx)
	fail(err)
	answers := []string{}
	for _, text := range []string{"first", "second"} {
		fail(both.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte(text)}}))
		part, err := both.Recv()
		fail(err)
		answers = append(answers, string(part.GetPayload().GetBody()))
	}
	fail(both.CloseSend())
	_, err = both.Recv()
	say("both", map[string]any{"bodies": answers, "ended": errors.Is(err, io.EOF)})
}

func main() {
	switch {
	case len(os.Args) == 4 && os.Args[1] == "server":
		serve(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "client":
		ask(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "client" && os.Args[3] == "gzip":
		ask(os.Args[2], grpc.UseCompressor(gzip.Name))
	default:
		os.Stderr.WriteString("grpc-masks server CERT KEY | client ADDRESS [gzip]\n")
		os.Exit(2)
	}
}
