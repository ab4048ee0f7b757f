package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"
)

// A stamp is an encoded event with the places of the trace's number.
type stamp struct {
	event  []byte
	places []int
	length int
}

func newStamp(event []byte, placeholder string) *stamp {
	s := &stamp{event: event, length: len(placeholder)}
	for at := 0; ; {
		found := bytes.Index(event[at:], []byte(placeholder))
		if found < 0 {
			return s
		}
		s.places = append(s.places, at+found)
		at += found + len(placeholder)
	}
}

// A caller knows which event it sends next.
type caller struct {
	group  *group
	index  int
	number int
	trace  int
	event  int
}

// The headers of the trace that is next.
func (c *caller) headers() map[string]string {
	if c.group.Kind == "stream" || c.group.EventsPerCall > 1 {
		return c.group.Headers[c.index%len(c.group.Headers)]
	}
	return c.group.Headers[(c.index+c.trace)%len(c.group.Headers)]
}

// next is a new request with the next events, which follow each other in it.
func (c *caller) next(events int) []byte {
	var request []byte
	for range events {
		s := c.group.stamps[c.event]
		begin := len(request)
		request = append(request, s.event...)
		// Letters between, since sixteen digits may pass for a payment card's.
		number := fmt.Appendf(nil, "c%05dt%0*d", c.number, s.length-7, c.trace)
		for _, place := range s.places {
			copy(request[begin+place:], number)
		}
		if c.event++; c.event == len(c.group.stamps) {
			c.event = 0
			c.trace++
		}
	}
	return request
}

// What one caller saw.
type notes struct {
	from, until time.Time
	// byBegin counts what began in the measured time instead of what was answered in it: else the slowest answers,
	// those that come after its end, would be left out.
	byBegin      bool
	latencies    []time.Duration
	events       int
	acknowledged int
}

func (n *notes) answered(began time.Time, events int) {
	n.acknowledged += events
	now := time.Now()
	counted := now
	if n.byBegin {
		counted = began
	}
	if counted.After(n.from) && counted.Before(n.until) {
		n.events += events
		n.latencies = append(n.latencies, now.Sub(began))
	}
}

func (g *group) summary(all []*notes, measured float64) *figures {
	f := &figures{Name: g.Name, Seconds: measured, Error: g.failed.Load()}
	var latencies []time.Duration
	for _, note := range all {
		f.Events += note.events
		f.Acknowledged += note.acknowledged
		latencies = append(latencies, note.latencies...)
	}
	slices.Sort(latencies)
	f.Calls = len(latencies)
	f.PerSecond = float64(f.Events) / measured
	f.P50Ms, f.P95Ms, f.P99Ms = rank(latencies, 0.50), rank(latencies, 0.95), rank(latencies, 0.99)
	f.P999Ms, f.MaxMs = rank(latencies, 0.999), rank(latencies, 1)
	return f
}

// rank is the smallest latency that at least this share of all does not exceed, in milliseconds.
func rank(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := int(math.Ceil(share*float64(len(sorted)))) - 1
	return float64(sorted[max(at, 0)].Microseconds()) / 1000
}
