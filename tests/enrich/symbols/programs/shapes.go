// Methods, closures, generics, inlining. Answers for each address on its standard input what Go's
// own runtime says is there: FUNCTION, FILE and LINE, with tabs between them.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
)

type shape interface{ area() float64 }
type square struct{ side float64 }

func (s square) area() float64 { return grown(s.side, s.side) }

func grown(a, b float64) float64 { return absolute(a) * b }

func absolute(a float64) float64 {
	if a < 0 {
		return -a
	}
	return a
}

func joined[T any](items []T, text func(T) string) string {
	var parts []string
	for _, item := range items {
		parts = append(parts, text(item))
	}
	return strings.Join(parts, ",")
}

func main() {
	var s shape = square{3}
	text := joined([]int{1, 2}, func(i int) string { return fmt.Sprint(i) })
	fmt.Fprintln(os.Stderr, s.area(), text)
	rest := os.Args[2:]
	sort.Slice(rest, func(i, j int) bool { return rest[i] < rest[j] })

	// The first argument: where main.main is in the file.
	linked, _ := strconv.ParseUint(os.Args[1], 0, 64)
	pc, _, _, _ := runtime.Caller(0)
	slide := uint64(runtime.FuncForPC(pc).Entry()) - linked
	in, out := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		address, _ := strconv.ParseUint(in.Text(), 0, 64)
		// As if it were a return address: Go looks one byte before it.
		frames := runtime.CallersFrames([]uintptr{uintptr(address + slide + 1)})
		frame, _ := frames.Next()
		fmt.Fprintf(out, "%s\t%s\t%d\n", frame.Function, frame.File, frame.Line)
	}
}
