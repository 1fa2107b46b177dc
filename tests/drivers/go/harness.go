// What the two Go programs share: the lines that tests/drivers/run reads, and the load's frame. A check ends at its first
// fault, by panic; the drivers' own files do everything else.
package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const large = 8 << 20
const sleeping = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'"
const words = "grüße ☃ 😀 'quoted' \\ \t\n"

var stamp = time.Date(2024, 2, 29, 12, 34, 56, 789012000, time.UTC)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, expected interface{}) {
	if !reflect.DeepEqual(got, expected) {
		panic(fmt.Sprintf("got %.200v, not %.200v (%T, %T)", got, expected, got, expected))
	}
}

// The line of the check that failed, not of a helper in this file.
func place() int {
	for depth := 2; ; depth++ {
		_, file, line, ok := runtime.Caller(depth)
		if !ok {
			return 0
		}
		if strings.HasSuffix(file, "/go/pgx.go") || strings.HasSuffix(file, "/go/pq.go") {
			return line
		}
	}
}

func check(name string, function func() string) {
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Printf("fail %s line %d: %s\n", name, place(), strings.Join(strings.Fields(fmt.Sprint(failure)), " "))
		}
	}()
	fmt.Println(strings.TrimSpace("ok " + name + " " + function()))
}

func largeText() string { return strings.Repeat("0123456789abcdef", large/16) }

func largeBytes() []byte {
	bytes := make([]byte, large)
	for i := range bytes {
		bytes[i] = byte(i * 31)
	}
	return bytes
}

// Runs work for each connection of the load; more() is true while there is time, and once at least. Returns the sum of what they return.
func load(work func(token string, more func() bool) int) string {
	workers, err := strconv.Atoi(os.Getenv("WORKERS"))
	must(err)
	seconds, err := strconv.ParseFloat(os.Getenv("SECONDS"), 64)
	must(err)
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var group sync.WaitGroup
	var lock sync.Mutex
	var failure interface{}
	sum := 0
	for number := 0; number < workers; number++ {
		token := fmt.Sprintf("w%d-%d-%d", number, os.Getpid(), time.Now().UnixNano())
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() {
				if found := recover(); found != nil {
					lock.Lock()
					failure = fmt.Sprintf("line %d: %v", place(), found)
					lock.Unlock()
				}
			}()
			rounds := 0
			committed := work(token, func() bool { rounds++; return rounds == 1 || time.Now().Before(until) })
			lock.Lock()
			sum += committed
			lock.Unlock()
		}()
	}
	group.Wait()
	if failure != nil {
		panic(failure)
	}
	return strconv.Itoa(sum)
}
