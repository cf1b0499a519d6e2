// Known chains of Go: plain calls with frames of all sizes, frameless leaves, goroutines, callbacks,
// panics, and the ways onto the thread's own stack: systemstack, morestack, mcall, and the vdso.
// Arguments: seconds, file for Go's own CPU profile ("" for none). Prints the chains of the burning
// functions as the runtime itself sees them.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

var sink uint64
var told sync.Map

//go:noinline
func leaf(n int, s uint64) uint64 { // no calls, no frame
	for i := 0; i < n; i++ {
		s = s*2862933555777941757 + 3037000493
	}
	return s
}

// tell prints who called the function that calls it, once for each.
//
//go:noinline
func tell() {
	var at [64]uintptr
	frames := runtime.CallersFrames(at[:runtime.Callers(2, at[:])])
	var names []string
	for {
		frame, more := frames.Next()
		names = append(names, frame.Function)
		if !more {
			break
		}
	}
	if _, known := told.LoadOrStore(names[0], true); !known {
		fmt.Println(strings.Join(names, " "))
	}
}

//go:noinline
func spinA(n int) {
	tell()
	for i := 0; i < 6; i++ {
		sink += leaf(n, sink)
	}
}

//go:noinline
func deep(n int) byte {
	var room [3000]byte
	room[n%3000] = 1
	deeper(n)
	return room[n%2999]
}

//go:noinline
func deeper(n int) { spinA(n) }

//go:noinline
func spinB(n int) {
	tell()
	for i := 0; i < 3; i++ {
		sink += leaf(n, sink)
	}
}

type shape interface{ spin(n int) }
type square struct{ side uint64 }

//go:noinline
func (s *square) spin(n int) { spinB(n) }

type byLeaf struct{ n int }

func (b byLeaf) Len() int      { return 2 }
func (b byLeaf) Swap(i, j int) {}

//go:noinline
func (b byLeaf) Less(i, j int) bool {
	tell()
	sink += leaf(b.n, sink)
	return false
}

//go:noinline
func recovering(n int) {
	defer func() {
		tell()
		recover()
		sink += leaf(n, sink)
	}()
	panic(n)
}

//go:noinline
func grow(depth int) int { // each call may find the stack too small
	var room [200]byte
	room[depth] = 1
	if depth == 0 {
		return int(room[0])
	}
	return grow(depth-1) + int(room[1])
}

//go:noinline
func growing(n int) {
	done := make(chan int)
	for i := 0; i < 2; i++ {
		go func() { done <- grow(150) }()
	}
	<-done
	<-done
}

//go:noinline
func allocating(n int) {
	kept := make([][]byte, 0, 8)
	for i := 0; i < 8; i++ {
		kept = append(kept, make([]byte, 40000+n%7)) // a span of its own: on the system's stack
	}
	sink += uint64(len(kept[n%8]))
}

//go:noinline
func asking(n int) {
	for i := 0; i < n/20; i++ {
		sink += uint64(time.Now().Nanosecond()) // the vdso, on the thread's stack
	}
}

//go:noinline
func turn(n int, s shape) {
	deep(n)
	s.spin(n)
	sort.Sort(byLeaf{n})
	recovering(n)
	growing(n)
	allocating(n)
	asking(n)
}

func worker(end time.Time, group *sync.WaitGroup) {
	defer group.Done()
	for time.Now().Before(end) {
		turn(20000, &square{1})
	}
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	if len(os.Args) > 2 {
		file, _ := os.Create(os.Args[2])
		pprof.StartCPUProfile(file)
		defer pprof.StopCPUProfile()
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var group sync.WaitGroup
	group.Add(2)
	go worker(end, &group)
	go worker(end, &group)
	group.Wait()
}
