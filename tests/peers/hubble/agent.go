package main

import (
	"flag"
	"fmt"
	"net"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	hubble "github.com/cilium/cilium/pkg/hubble/api/v1"
	"github.com/cilium/cilium/pkg/hubble/container"
	"github.com/cilium/cilium/pkg/hubble/observer"
	"github.com/cilium/cilium/pkg/hubble/observer/namespace"
	"github.com/cilium/cilium/pkg/hubble/observer/observeroption"
	"github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/hubble/parser/errors"
	"github.com/cilium/cilium/pkg/hubble/server"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
	node "github.com/cilium/cilium/pkg/node/types"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// agent serves what it reads: each line one response of GetFlows in JSON, a flow or lost events.
//
// An empty line asks how far it is: the answer {"seen": N} says that the N flows read so far can
// be asked for. The newest event of a ring cannot be read, so it puts one more behind them, of a
// kind that GetFlows leaves out.
func agent(args []string) error {
	set := flag.NewFlagSet("agent", flag.ExitOnError)
	name := set.String("node", "node-a", "name of the node, on lost events")
	ring := set.Int("ring", container.Capacity4095.AsInt(), "events kept: one below a power of two")
	interval := set.Duration("lost-interval", time.Second, "least time between reports of lost events")
	var listeners []net.Listener
	set.Func("listen", "HOST:PORT or unix:///PATH, may be repeated", func(address string) error {
		listener, err := listen(address)
		listeners = append(listeners, listener)
		return err
	})
	var security transport
	security.flags(set)
	_ = set.Parse(args)

	node.SetName(*name)
	log := logger()
	capacity, err := container.NewCapacity(*ring)
	if err != nil {
		return err
	}
	decoder := ready{marks: make(chan struct{})}
	local, err := observer.NewLocalServer(decoder, namespace.NewManager(), log,
		observeroption.WithMaxFlows(capacity),
		observeroption.WithLostEventSendInterval(*interval))
	if err != nil {
		return err
	}
	go local.Start()

	failed := make(chan error, len(listeners)+1)
	var addresses []string
	for _, listener := range listeners {
		if err := serve(local, listener, security, failed); err != nil {
			return err
		}
		addresses = append(addresses, listener.Addr().String())
	}
	if err := say(map[string]any{"listening": addresses}); err != nil {
		return err
	}
	go func() { failed <- feed(local.GetEventsChannel(), decoder.marks) }()
	return <-failed
}

func serve(
	local *observer.LocalObserverServer, listener net.Listener, security transport, failed chan<- error,
) error {
	log := logger()
	options := []serveroption.Option{
		serveroption.WithHealthService(),
		serveroption.WithObserverService(local),
		func(options *serveroption.Options) error { options.Listener = listener; return nil },
	}
	config, err := security.server(log)
	switch {
	case err != nil:
		return err
	case config == nil || listener.Addr().Network() == "unix": // as Cilium's own socket
		options = append(options, serveroption.WithInsecure())
	default:
		options = append(options, serveroption.WithServerTLS(config))
	}
	srv, err := server.NewServer(log, options...)
	if err != nil {
		return err
	}
	go func() { failed <- srv.Serve() }()
	return nil
}

func feed(events chan<- *types.MonitorEvent, marks <-chan struct{}) error {
	seen := 0
	latest := timestamppb.Now()
	return lines(func(line []byte) error {
		event := &hubble.Event{Timestamp: latest, Event: &flowpb.AgentEvent{}}
		if len(line) > 0 {
			response := &observerpb.GetFlowsResponse{}
			if err := protojson.Unmarshal(line, response); err != nil {
				return fmt.Errorf("flow %d: %w", seen+1, err)
			}
			seen++
			event = eventOf(response)
			latest = event.Timestamp
		}
		events <- &types.MonitorEvent{Payload: event}
		if len(line) > 0 {
			return nil
		}
		<-marks
		return say(map[string]any{"seen": seen})
	})
}

func eventOf(response *observerpb.GetFlowsResponse) *hubble.Event {
	if lost := response.GetLostEvents(); lost != nil {
		return &hubble.Event{Timestamp: response.GetTime(), Event: lost}
	}
	flow := response.GetFlow()
	return &hubble.Event{Timestamp: flow.GetTime(), Event: flow}
}

// ready is a decoder of events that are decoded already, with a mark for each of our own.
type ready struct{ marks chan struct{} }

func (r ready) Decode(event *types.MonitorEvent) (*hubble.Event, error) {
	decoded, ok := event.Payload.(*hubble.Event)
	if !ok {
		return nil, errors.ErrUnknownEventType
	}
	if decoded.GetAgentEvent() != nil {
		r.marks <- struct{}{}
	}
	return decoded, nil
}
