package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	peerpb "github.com/cilium/cilium/api/v1/peer"
	"github.com/cilium/cilium/pkg/crypto/certloader"
	"github.com/cilium/cilium/pkg/hubble/relay/server"
	"google.golang.org/grpc"
)

// relay runs Hubble Relay over some agents, until its input ends.
func relay(args []string) error {
	set := flag.NewFlagSet("relay", flag.ExitOnError)
	address := set.String("listen", "127.0.0.1:0", "HOST:PORT")
	var known peers
	set.Func("peer", "NAME=HOST:PORT[=TLS SERVER NAME] of an agent, may be repeated", known.add)
	var security transport
	security.flags(set)
	_ = set.Parse(args)

	folder, err := os.MkdirTemp("", "hubblepeer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	target := "unix://" + filepath.Join(folder, "peer.sock")
	socket, err := listen(target)
	if err != nil {
		return err
	}
	bound, err := free(*address)
	if err != nil {
		return err
	}
	log := logger()
	options, err := security.relay(log)
	if err != nil {
		return err
	}
	relayed, err := server.New(append(options,
		server.WithLogger(log),
		server.WithPeerTarget(target),
		server.WithRetryTimeout(100*time.Millisecond),
		server.WithListenAddress(bound),
		server.WithHealthListenAddress("127.0.0.1:0"))...)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	peerpb.RegisterPeerServer(srv, &known)
	failed := make(chan error, 3)
	go func() { failed <- srv.Serve(socket) }()
	go func() { failed <- relayed.Serve() }()
	go func() { failed <- lines(func([]byte) error { return nil }) }()
	if err := say(map[string]any{"listening": []string{bound}}); err != nil {
		return err
	}
	return <-failed
}

func (t *transport) relay(log *slog.Logger) ([]server.Option, error) {
	config, err := t.server(log)
	if err != nil {
		return nil, err
	}
	if config == nil {
		return []server.Option{server.WithInsecureServer(), server.WithInsecureClient()}, nil
	}
	client, err := certloader.NewWatchedClientConfig(log, t.authorities(), t.cert, t.key)
	if err != nil {
		return nil, err
	}
	return []server.Option{server.WithServerTLS(config), server.WithClientTLS(client)}, nil
}

// free is the address with a port that was free a moment ago: the relay binds its own, and does
// not tell which it was given.
func free(address string) (string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// peers is the service that tells a relay which agents there are.
type peers struct {
	peerpb.UnimplementedPeerServer
	added []*peerpb.ChangeNotification
}

func (p *peers) add(text string) error {
	parts := strings.SplitN(text, "=", 3)
	if len(parts) < 2 {
		return fmt.Errorf("%q is no NAME=HOST:PORT", text)
	}
	peer := &peerpb.ChangeNotification{
		Name: parts[0], Address: parts[1], Type: peerpb.ChangeNotificationType_PEER_ADDED,
	}
	if len(parts) == 3 {
		peer.Tls = &peerpb.TLS{ServerName: parts[2]}
	}
	p.added = append(p.added, peer)
	return nil
}

// Notify implements the Peer service: every agent once, and then no change.
func (p *peers) Notify(_ *peerpb.NotifyRequest, stream peerpb.Peer_NotifyServer) error {
	for _, peer := range p.added {
		if err := stream.Send(peer); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}
