// Go calls C, which burns CPU time or calls back into Go, which does. Argument: seconds.
// Prints once who called back, as the runtime itself sees it.
package main

/*
#include <stdint.h>

extern void goSpin(int n);

static volatile uint64_t c_sink;

static __attribute__((noinline, used)) void c_leaf(int n)
{
	for (int i = 0; i < n; i++)
		c_sink = c_sink * 2862933555777941757u + 3037000493u;
}

static __attribute__((noinline, used)) void c_spin(int n)
{
	c_leaf(n);
	c_sink++;
}

static __attribute__((noinline, used)) void c_call_back(int n)
{
	goSpin(n);
	c_sink++;
}
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

var sink uint64
var told bool

//go:noinline
func leaf(n int, s uint64) uint64 {
	for i := 0; i < n; i++ {
		s = s*2862933555777941757 + 3037000493
	}
	return s
}

// tell prints who called the function that calls it, once.
//
//go:noinline
func tell() {
	if told {
		return
	}
	told = true
	var at [64]uintptr
	frames := runtime.CallersFrames(at[:runtime.Callers(2, at[:])])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		fmt.Print(frame.Function, " ")
	}
	fmt.Println()
}

//export goSpin
func goSpin(n C.int) {
	tell()
	sink += leaf(int(n), sink)
}

//go:noinline
func intoC(n int) { C.c_spin(C.int(n)) }

//go:noinline
func intoCAndBack(n int) { C.c_call_back(C.int(n)) }

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for time.Now().Before(end) {
		intoC(50000)
		intoCAndBack(100000)
	}
}
