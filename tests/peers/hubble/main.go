// Command hubblepeer is the real Hubble for the tests of sidelong: Cilium's own observer and
// gRPC server fed from standard input, its relay, and its command-line tool, in one program.
//
//	hubblepeer agent -listen 127.0.0.1:0 -listen unix:///tmp/hubble.sock -node worker-a < flows
//	hubblepeer relay -peer worker-a=127.0.0.1:4244
//	hubblepeer hubble observe --server localhost:4245
//
// The first line on standard output says where it listens, as JSON. It ends with its input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/cilium/cilium/hubble/cmd"
	"github.com/cilium/cilium/pkg/crypto/certloader"
)

// longest is the length of a line of input in bytes, far above that of any flow.
const longest = 16 << 20

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: hubblepeer agent|relay|hubble ...")
	}
	switch args[0] {
	case "agent":
		return agent(args[1:])
	case "relay":
		return relay(args[1:])
	case "hubble":
		os.Args = args
		return cmd.Execute()
	}
	return fmt.Errorf("no command %q: there are agent, relay and hubble", args[0])
}

// transport is what the flags of agent and relay say about TLS.
type transport struct{ cert, key, ca string }

func (t *transport) flags(set *flag.FlagSet) {
	set.StringVar(&t.cert, "cert", "", "certificate file; none: no TLS")
	set.StringVar(&t.key, "key", "", "private key file")
	set.StringVar(&t.ca, "ca", "", "CA file: peers must show a certificate of it")
}

func (t *transport) authorities() []string {
	if t.ca == "" {
		return nil
	}
	return []string{t.ca}
}

// server is nil where there is no TLS.
func (t *transport) server(log *slog.Logger) (*certloader.WatchedServerConfig, error) {
	if t.cert == "" {
		return nil, nil
	}
	return certloader.NewWatchedServerConfig(log, t.authorities(), t.cert, t.key)
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// say writes one line of JSON for the test.
func say(message map[string]any) error {
	return json.NewEncoder(os.Stdout).Encode(message)
}

// lines calls each with every line of standard input, without its end.
func lines(each func(line []byte) error) error {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(make([]byte, 1<<20), longest)
	for scanner.Scan() {
		if err := each(scanner.Bytes()); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("standard input: %w", err)
	}
	return nil
}

// listen takes HOST:PORT or unix:///PATH.
func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return net.Listen("unix", path)
	}
	return net.Listen("tcp", address)
}
