// lib/pq through database/sql at its defaults, but for sslmode: lib/pq's own is `require`, which a server without TLS
// refuses. A query with values is an unnamed statement, db.Prepare a named one. Where to connect comes from PG* variables.
// Prints a line for each check, as tests/drivers/run wants it.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lib/pq"
)

var ctx = context.Background()

func open() *sql.DB {
	db, err := sql.Open("postgres", "sslmode=disable")
	must(err)
	return db
}

func connect(db *sql.DB) *sql.Conn {
	conn, err := db.Conn(ctx)
	must(err)
	return conn
}

func expect(sqlstate string, err error) {
	var failure *pq.Error
	if !errors.As(err, &failure) || string(failure.Code) != sqlstate {
		panic(fmt.Sprintf("%s expected, got %v", sqlstate, err))
	}
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, values ...interface{}) *sql.Row
	ExecContext(ctx context.Context, query string, values ...interface{}) (sql.Result, error)
}

func number(conn querier, query string, values ...interface{}) (found int) {
	must(conn.QueryRowContext(ctx, query, values...).Scan(&found))
	return
}

func execute(conn querier, query string, values ...interface{}) {
	_, err := conn.ExecContext(ctx, query, values...)
	must(err)
}

func failing(conn querier, sqlstate string, query string, values ...interface{}) {
	_, err := conn.ExecContext(ctx, query, values...)
	expect(sqlstate, err)
}

func connects() string {
	db := open()
	defer db.Close()
	must(db.Ping())
	var user, database string
	must(db.QueryRow("select current_user, current_database()").Scan(&user, &database))
	equal(user+database, os.Getenv("PGUSER")+os.Getenv("PGDATABASE"))
	wrong, err := sql.Open("postgres", "sslmode=disable password=wrong")
	must(err)
	expect("28P01", wrong.Ping())
	return ""
}

func types() string {
	db := open()
	defer db.Close()
	var i, l int64
	var t, n, json string
	var f float64
	var b bool
	var s, z time.Time
	var raw []byte
	var null sql.NullString
	var ints []int64
	var texts []string
	must(db.QueryRow(`select $1::int4, $2::int8, $3::text, $4::float8, $5::bool, $6::timestamp, $7::timestamptz, $8::bytea,
		$9::numeric, $10::text, $11::int[], $12::text[], $13::jsonb`,
		-42, int64(9007199254740993), words, -1e300, true, stamp, stamp, []byte{0, 1, 127, 255}, "12345678901234567890.123456789",
		nil, pq.Array([]int64{1, -2, 3}), pq.Array([]string{"a", "b c", "\""}), `{"a": [1, 2.5, null]}`).Scan(
		&i, &l, &t, &f, &b, &s, &z, &raw, &n, &null, pq.Array(&ints), pq.Array(&texts), &json))
	equal(i, int64(-42))
	equal(l, int64(9007199254740993))
	equal(t, words)
	equal(f, -1e300)
	equal(b, true)
	equal(s.UTC(), stamp)
	equal(z.UTC(), stamp)
	equal(raw, []byte{0, 1, 127, 255})
	equal(n, "12345678901234567890.123456789")
	equal(null.Valid, false)
	equal(ints, []int64{1, -2, 3})
	equal(texts, []string{"a", "b c", "\""})
	equal(json, `{"a": [1, 2.5, null]}`)
	return ""
}

func prepared() string {
	db := open()
	defer db.Close()
	one, other := connect(db), connect(db)
	mine, err := one.PrepareContext(ctx, "select $1::int + 1") // named "1" at both
	must(err)
	theirs, err := other.PrepareContext(ctx, "select $1::int + 1000")
	must(err)
	for i := 0; i < 40; i++ {
		if i%3 == 0 { // takes the server that `one` had
			execute(other, "begin")
		}
		var found int
		must(mine.QueryRow(i).Scan(&found))
		equal(found, i+1)
		must(theirs.QueryRow(i).Scan(&found))
		equal(found, i+1000)
		equal(number(one, "select $1::int * 2", i), i*2)
		if i%3 == 1 {
			execute(other, "rollback")
		}
	}
	execute(other, "rollback")
	for i := 0; i < 300; i++ {
		each, err := one.PrepareContext(ctx, fmt.Sprintf("select $1::int + %d", i))
		must(err)
		var found int
		must(each.QueryRow(1).Scan(&found))
		equal(found, i+1)
		if i%2 == 0 {
			must(each.Close())
		}
	}
	must(mine.Close())
	must(one.Close())
	must(other.Close())
	return ""
}

func transactions() string {
	db := open()
	defer db.Close()
	const count = "select count(*) from items"
	tx, err := db.Begin()
	must(err)
	execute(tx, "insert into items values ($1, $2)", 1, "one")
	equal(number(db, count), 0)
	must(tx.Commit())
	equal(number(db, count), 1)
	tx, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	must(err)
	execute(tx, "insert into items values ($1, $2)", 2, "two")
	must(tx.Rollback())
	equal(number(db, count), 1)
	tx, err = db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	must(err)
	failing(tx, "25006", "insert into items values (3, 'three')")
	must(tx.Rollback())
	tx, err = db.Begin()
	must(err)
	execute(tx, "insert into items values ($1, $2)", 3, "three")
	execute(tx, "savepoint before")
	failing(tx, "23505", "insert into items values ($1, $2)", 3, "again")
	execute(tx, "rollback to before")
	must(tx.Commit())
	equal(number(db, count), 2)
	execute(db, "delete from items")
	return ""
}

func failures() string {
	db := open()
	defer db.Close()
	conn := connect(db)
	failing(conn, "42601", "selec 1")
	failing(conn, "42601", "selec $1", 1)
	execute(conn, "insert into items values (1, 'one')")
	failing(conn, "23505", "insert into items values ($1, 'again')", 1)
	failing(conn, "23502", "insert into items values (2, $1)", nil)
	execute(conn, "delete from items")
	for i := 0; i < 10; i++ {
		tx, err := conn.BeginTx(ctx, nil)
		must(err)
		failing(tx, "22012", "select 1 / $1::int", 0)
		failing(tx, "25P02", "select 1")
		equal(tx.Commit() != nil, true)
		equal(number(conn, "select 7 / $1::int", 1), 7)
	}
	must(conn.Close())
	return ""
}

func pipeline() string { // several statements in one simple query
	db := open()
	defer db.Close()
	rows, err := db.Query("select 1; select 2")
	must(err)
	for expected := 1; expected <= 2; expected++ {
		equal(rows.Next(), true)
		var found int
		must(rows.Scan(&found))
		equal(found, expected)
		equal(rows.Next(), false)
		equal(rows.NextResultSet(), expected == 1)
	}
	must(rows.Close())
	failing(db, "22012", "insert into items values (1, 'one'); select 1/0; select 3")
	equal(number(db, "select count(*) from items"), 0)
	return ""
}

func cursor() string { // DECLARE and FETCH: lib/pq has no call of its own for it
	db := open()
	defer db.Close()
	tx, err := db.Begin()
	must(err)
	execute(tx, "declare pieces cursor for select n from generate_series(1, $1::int) n", 1000)
	for fetched, piece := 0, 100; piece == 100; fetched += piece {
		rows, err := tx.Query("fetch 100 from pieces")
		must(err)
		for piece = 0; rows.Next(); piece++ {
			var n int
			must(rows.Scan(&n))
			equal(n, fetched+piece+1)
		}
		must(rows.Err())
		equal(piece, map[bool]int{true: 100, false: 0}[fetched < 1000])
	}
	must(tx.Commit())
	failing(db, "34000", "fetch 1 from pieces") // it ended with its transaction
	return ""
}

func copies() string { // in only; COPY TO is not there
	db := open()
	defer db.Close()
	tx, err := db.Begin()
	must(err)
	copying, err := tx.Prepare(pq.CopyIn("items", "id", "name"))
	must(err)
	for i := 0; i < 20000; i++ {
		_, err = copying.Exec(i, fmt.Sprint("name ", i, words))
		must(err)
	}
	_, err = copying.Exec()
	must(err)
	must(copying.Close())
	must(tx.Commit())
	equal(number(db, "select count(*) from items where name = 'name ' || id || $1", words), 20000)
	execute(db, "delete from items")
	tx, err = db.Begin()
	must(err)
	copying, err = tx.Prepare(pq.CopyIn("items", "id", "name"))
	must(err)
	_, err = copying.Exec("x", "bad")
	must(err)
	_, err = copying.Exec()
	expect("22P02", err)
	must(tx.Rollback())
	equal(number(db, "select count(*) from items"), 0)
	return ""
}

func cancel() string { // a context that ends
	db := open()
	defer db.Close()
	conn, other := connect(db), connect(db)
	ending, end := context.WithCancel(ctx)
	go func() {
		for number(other, sleeping) == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		end()
	}()
	_, err := conn.ExecContext(ending, "select pg_sleep(20)")
	equal(err != nil, true)
	if !errors.Is(err, context.Canceled) {
		expect("57014", err)
	}
	for number(other, sleeping) != 0 {
		time.Sleep(20 * time.Millisecond)
	}
	equal(number(db, "select 7"), 7)
	conn.Close()
	must(other.Close())
	return ""
}

func largeValues() string {
	db := open()
	defer db.Close()
	text, raw := largeText(), largeBytes()
	var gotText string
	var gotRaw []byte
	must(db.QueryRow("select $1::text, $2::bytea", text, raw).Scan(&gotText, &gotRaw))
	equal(gotText == text, true)
	equal(bytes.Equal(gotRaw, raw), true)
	return ""
}

func loads() string {
	db := open()
	defer db.Close()
	return load(func(token string, more func() bool) int {
		conn := connect(db)
		defer conn.Close()
		echo, err := conn.PrepareContext(ctx, "select $1::text, $2::int")
		must(err)
		committed := 0
		for round := 1; more(); round++ {
			var gotToken string
			var got int
			must(echo.QueryRow(token, round).Scan(&gotToken, &got))
			equal(gotToken, token)
			equal(got, round)
			tx, err := conn.BeginTx(ctx, nil)
			must(err)
			must(tx.QueryRow("insert into load values ($1, $2) returning token, seq", token, committed).Scan(&gotToken, &got))
			equal(gotToken, token)
			equal(got, committed)
			must(tx.Stmt(echo).QueryRow(token, round).Scan(&gotToken, &got))
			equal(gotToken, token)
			equal(number(tx, "select count(*) from load where token = $1", token), committed+1)
			if round%7 == 0 {
				failing(tx, "22012", "select 1 / ($1::int - $2::int)", round, round)
			}
			if round%7 == 0 || round%5 == 0 {
				must(tx.Rollback())
			} else {
				must(tx.Commit())
				committed++
			}
			rows, err := conn.QueryContext(ctx, "select $1::text || n from generate_series(1, 50) n", token)
			must(err)
			n := 0
			for rows.Next() {
				n++
				must(rows.Scan(&gotToken))
				equal(gotToken, token+fmt.Sprint(n))
			}
			must(rows.Err())
			equal(n, 50)
		}
		equal(number(conn, "select count(*) from load where token = $1", token), committed)
		return committed
	})
}

func main() {
	version, err := exec.Command("dpkg-query", "-W", "-f=${Version}", "golang-github-lib-pq-dev").Output()
	must(err)
	fmt.Println("version lib/pq", strings.Split(string(version), "-")[0], "(Go)")
	check("connect", connects)
	check("types", types)
	check("prepared", prepared)
	check("transactions", transactions)
	check("errors", failures)
	check("pipeline", pipeline)
	check("cursor", cursor)
	check("copy", copies)
	check("cancel", cancel)
	check("large", largeValues)
	check("load", loads)
}
