// Sends events as fast as answers come, or at a given pace, and tells how fast that was.
//
// Reads a plan as JSON from standard input and writes the figures as JSON to standard output. The events are made by
// whoever writes the plan: already encoded, with a placeholder where each trace's own number goes. So this program
// needs no stubs, and costs little beside the server that it measures.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type plan struct {
	WarmupSeconds float64  `json:"warmup_seconds"`
	Seconds       float64  `json:"seconds"`
	Placeholder   string   `json:"placeholder"`
	Groups        []*group `json:"groups"`
}

// A group of callers that do the same. Each sends the events of a trace in order, then those of its next trace.
type group struct {
	Name string `json:"name"`
	// Kind is `unary`, `stream` or `rest`.
	Kind string `json:"kind"`
	// Target is `host:port` for gRPC, a URL for REST.
	Target string `json:"target"`
	Method string `json:"method"`
	// Callers wait for each answer before the next call; a stream sends on.
	Callers     int `json:"callers"`
	Connections int `json:"connections"`
	// EventsPerCall is how many events follow each other in one unary request.
	EventsPerCall int `json:"events_per_call"`
	// IntervalMs is the time from one call of a caller to its next; 0: at once.
	IntervalMs float64 `json:"interval_ms"`
	// CallsPerSecond is how many calls of all callers are due in a second, at even distances and whether answers come
	// or not; 0: a caller's next call follows its answer. How long a call took counts from when it was due, so that
	// calls that had to wait for a free caller are not told as fast ones.
	CallsPerSecond float64 `json:"calls_per_second"`
	// Events are the encoded events of one trace.
	Events [][]byte `json:"events"`
	// Spread lets callers begin at different places of the events, which then are any requests.
	Spread bool `json:"spread"`
	// Headers are what a call carries, one set per tenant. A caller that sends single events takes the next set with
	// each trace; otherwise each caller keeps one.
	Headers []map[string]string `json:"headers"`

	stamps []*stamp
	failed atomic.Pointer[string]
}

type figures struct {
	Name string `json:"name"`
	// Counted within the measured time.
	Seconds   float64 `json:"seconds"`
	Calls     int     `json:"calls"`
	Events    int     `json:"events"`
	PerSecond float64 `json:"events_per_second"`
	P50Ms     float64 `json:"p50_ms"`
	P95Ms     float64 `json:"p95_ms"`
	P99Ms     float64 `json:"p99_ms"`
	P999Ms    float64 `json:"p999_ms"`
	MaxMs     float64 `json:"max_ms"`
	// Acknowledged counts events from the first call to the last, warm-up included.
	Acknowledged int     `json:"acknowledged"`
	Error        *string `json:"error"`
}

type result struct {
	CPUSeconds  float64    `json:"client_cpu_seconds"`
	WallSeconds float64    `json:"wall_seconds"`
	Groups      []*figures `json:"groups"`
}

func main() {
	var p plan
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		fail(err)
	}
	began := time.Now()
	from := began.Add(seconds(p.WarmupSeconds))
	until := from.Add(seconds(p.Seconds))
	answer := result{Groups: make([]*figures, len(p.Groups))}
	var all sync.WaitGroup
	for index, g := range p.Groups {
		for _, event := range g.Events {
			g.stamps = append(g.stamps, newStamp(event, p.Placeholder))
		}
		send, err := g.sender()
		if err != nil {
			fail(err)
		}
		// The callers of different groups must not take the same trace numbers.
		all.Go(func() { answer.Groups[index] = g.run(send, index*10_000, from, until) })
	}
	all.Wait()
	answer.WallSeconds = time.Since(began).Seconds()
	answer.CPUSeconds = cpuSeconds()
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		fail(err)
	}
}

// A sender makes one caller's function that works until the given time and notes every answer.
type sender func(caller *caller, note *notes, until time.Time) error

func (g *group) sender() (sender, error) {
	switch g.Kind {
	case "unary":
		return g.grpcUnary()
	case "stream":
		return g.grpcStream()
	case "rest":
		return g.rest(), nil
	}
	return nil, fmt.Errorf("unknown kind %q", g.Kind)
}

func (g *group) run(send sender, firstCaller int, from, until time.Time) *figures {
	all := make([]*notes, g.Callers)
	var callers sync.WaitGroup
	for index := range g.Callers {
		all[index] = &notes{from: from, until: until, byBegin: g.CallsPerSecond > 0}
		callers.Go(func() {
			c := &caller{group: g, index: index, number: firstCaller + index, event: g.firstEvent(index)}
			if err := send(c, all[index], until); err != nil {
				text := err.Error()
				g.failed.CompareAndSwap(nil, &text)
			}
		})
	}
	callers.Wait()
	return g.summary(all, until.Sub(from).Seconds())
}

// Callers begin at the first event of a trace; requests that are not of traces are spread over the callers.
func (g *group) firstEvent(index int) int {
	if !g.Spread {
		return 0
	}
	return index * len(g.Events) / g.Callers
}

// One at a time: `work` is done until the end, or until it or another caller of the group fails.
func (g *group) repeat(c *caller, note *notes, until time.Time, work func() (events int, err error)) error {
	interval := seconds(g.IntervalMs / 1000)
	due := time.Now()
	if g.CallsPerSecond > 0 {
		interval = seconds(float64(g.Callers) / g.CallsPerSecond)
		due = due.Add(interval * time.Duration(c.index) / time.Duration(g.Callers))
	}
	for g.failed.Load() == nil {
		time.Sleep(time.Until(due))
		began := time.Now()
		if g.CallsPerSecond > 0 {
			began = due
		}
		if !began.Before(until) {
			return nil
		}
		events, err := work()
		if err != nil {
			return err
		}
		note.answered(began, events)
		due = due.Add(interval)
	}
	return nil
}

func seconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Second))
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
