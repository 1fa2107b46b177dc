// pgx at its defaults: every statement is prepared under a name and kept in a cache of 512. Where to connect comes from
// PG* variables. Prints a line for each check, as tests/drivers/run wants it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

var ctx = context.Background()

func connect() *pgx.Conn {
	conn, err := pgx.Connect(ctx, "")
	must(err)
	return conn
}

func expect(sqlstate string, err error) {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) || failure.Code != sqlstate {
		panic(fmt.Sprintf("%s expected, got %v", sqlstate, err))
	}
}

type querier interface {
	QueryRow(ctx context.Context, sql string, values ...interface{}) pgx.Row
}

func number(conn querier, sql string, values ...interface{}) (found int) {
	must(conn.QueryRow(ctx, sql, values...).Scan(&found))
	return
}

func execute(conn interface {
	Exec(ctx context.Context, sql string, values ...interface{}) (pgconn.CommandTag, error)
}, sql string, values ...interface{}) {
	_, err := conn.Exec(ctx, sql, values...)
	must(err)
}

func connects() string {
	conn := connect()
	var user, database string
	must(conn.QueryRow(ctx, "select current_user::text, current_database()::text").Scan(&user, &database))
	equal(user+database, os.Getenv("PGUSER")+os.Getenv("PGDATABASE"))
	must(conn.Ping(ctx))
	equal(conn.PgConn().ParameterStatus("client_encoding"), "UTF8")
	must(conn.Close(ctx))
	config, err := pgx.ParseConfig("password=wrong")
	must(err)
	_, err = pgx.ConnectConfig(ctx, config)
	expect("28P01", err)
	return ""
}

func types() string {
	conn := connect()
	defer conn.Close(ctx)
	numeric := pgtype.Numeric{}
	must(numeric.Set("12345678901234567890.123456789"))
	var i int32
	var l int64
	var t string
	var f float64
	var b bool
	var s, z time.Time
	var raw []byte
	var n, wanted string
	var null *string
	var ints []int32
	var texts []string
	var json map[string]interface{}
	must(conn.QueryRow(ctx, `select $1::int4, $2::int8, $3::text, $4::float8, $5::bool, $6::timestamp, $7::timestamptz, $8::bytea,
		$9::numeric::text, $10::text, $11::int[], $12::text[], $13::jsonb, $14::text`,
		int32(-42), int64(9007199254740993), words, -1e300, true, stamp, stamp, []byte{0, 1, 127, 255}, &numeric, nil,
		[]int32{1, -2, 3}, []string{"a", "b c", "\""}, map[string]interface{}{"a": []interface{}{1.5, nil}}, "end").Scan(
		&i, &l, &t, &f, &b, &s, &z, &raw, &n, &null, &ints, &texts, &json, &wanted))
	equal(i, int32(-42))
	equal(l, int64(9007199254740993))
	equal(t, words)
	equal(f, -1e300)
	equal(b, true)
	equal(s.UTC(), stamp)
	equal(z.UTC(), stamp)
	equal(raw, []byte{0, 1, 127, 255})
	equal(n, "12345678901234567890.123456789")
	equal(null, (*string)(nil))
	equal(ints, []int32{1, -2, 3})
	equal(texts, []string{"a", "b c", "\""})
	equal(json, map[string]interface{}{"a": []interface{}{1.5, nil}})
	equal(wanted, "end")
	equal(number(conn, "select $1::int", pgx.QuerySimpleProtocol(true), 7), 7)
	return ""
}

func prepared() string {
	conn, other := connect(), connect()
	defer conn.Close(ctx)
	defer other.Close(ctx)
	_, err := conn.Prepare(ctx, "plus", "select $1::int + 1")
	must(err)
	_, err = other.Prepare(ctx, "plus", "select $1::int + 1000") // same name, another text
	must(err)
	var holding pgx.Tx
	for i := 0; i < 40; i++ {
		if i%3 == 0 { // takes the server that conn had
			holding, err = other.Begin(ctx)
			must(err)
		}
		equal(number(conn, "plus", i), i+1)
		equal(number(other, "plus", i), i+1000)
		equal(number(conn, "select $1::int * 2", i), i*2)
		if i%3 == 1 {
			must(holding.Rollback(ctx))
		}
	}
	for i := 0; i < 600; i++ { // more than the cache holds: the oldest are deallocated
		equal(number(conn, fmt.Sprintf("select $1::int + %d", i), 1), i+1)
	}
	equal(number(conn, "plus", 7), 8)
	must(conn.Deallocate(ctx, "plus"))
	_, err = conn.Prepare(ctx, "plus", "select $1::int + 2")
	must(err)
	equal(number(conn, "plus", 7), 9)
	return ""
}

func transactions() string {
	conn, other := connect(), connect()
	defer conn.Close(ctx)
	defer other.Close(ctx)
	const count = "select count(*) from items"
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		execute(tx, "insert into items values (1, 'one')")
		equal(number(other, count), 0)
		return nil
	}))
	equal(number(other, count), 1)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	must(err)
	execute(tx, "insert into items values ($1, $2)", 2, "two")
	must(tx.Rollback(ctx))
	equal(number(other, count), 1)
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		execute(tx, "insert into items values ($1, $2)", 3, "three")
		inner, err := tx.Begin(ctx) // a savepoint
		must(err)
		_, err = inner.Exec(ctx, "insert into items values ($1, $2)", 3, "again")
		expect("23505", err)
		must(inner.Rollback(ctx))
		execute(tx, "insert into items values ($1, $2)", 4, "four")
		return nil
	}))
	equal(number(other, count), 3)
	execute(conn, "delete from items")
	return ""
}

func failures() string {
	conn := connect()
	defer conn.Close(ctx)
	_, err := conn.Exec(ctx, "selec 1")
	expect("42601", err)
	_, err = conn.Exec(ctx, "selec $1", 1)
	expect("42601", err)
	execute(conn, "insert into items values (1, 'one')")
	_, err = conn.Exec(ctx, "insert into items values ($1, 'again')", 1)
	expect("23505", err)
	_, err = conn.Exec(ctx, "insert into items values (2, $1)", nil)
	expect("23502", err)
	execute(conn, "delete from items")
	for i := 0; i < 10; i++ {
		tx, err := conn.Begin(ctx)
		must(err)
		_, err = tx.Exec(ctx, "select 1 / $1::int", 0)
		expect("22012", err)
		_, err = tx.Exec(ctx, "select 1")
		expect("25P02", err)
		equal(errors.Is(tx.Commit(ctx), pgx.ErrTxCommitRollback), true)
		equal(number(conn, "select 7 / $1::int", 1), 7)
	}
	return ""
}

func pipeline() string { // SendBatch: all in one write, one Sync
	conn := connect()
	defer conn.Close(ctx)
	for round := 0; round < 10; round++ {
		batch := &pgx.Batch{}
		for i := 0; i < 100; i++ {
			batch.Queue("insert into items values ($1, $2) returning id * 2", i, fmt.Sprint("name ", i))
		}
		batch.Queue("delete from items")
		results := conn.SendBatch(ctx, batch)
		for i := 0; i < 100; i++ {
			var found int
			must(results.QueryRow().Scan(&found))
			equal(found, i*2)
		}
		tag, err := results.Exec()
		must(err)
		equal(tag.RowsAffected(), int64(100))
		must(results.Close())
		batch = &pgx.Batch{}
		batch.Queue("insert into items values ($1, $2)", 1, "one")
		batch.Queue("select 1 / $1::int", 0)
		batch.Queue("select $1::int", 3)
		results = conn.SendBatch(ctx, batch)
		_, err = results.Exec()
		must(err)
		_, err = results.Exec()
		expect("22012", err)
		expect("22012", results.Close())
		equal(number(conn, "select count(*) from items"), 0) // a batch is one implicit transaction
	}
	several, err := conn.PgConn().Exec(ctx, "select 1; select 2; select 3").ReadAll()
	must(err)
	equal(len(several), 3)
	return ""
}

func cursor() string { // DECLARE and FETCH: pgx has no call of its own for it
	conn := connect()
	defer conn.Close(ctx)
	tx, err := conn.Begin(ctx)
	must(err)
	execute(tx, "declare pieces cursor for select n from generate_series(1, 1000) n")
	for fetched, piece := 0, 100; piece == 100; fetched += piece {
		rows, err := tx.Query(ctx, "fetch 100 from pieces")
		must(err)
		for piece = 0; rows.Next(); piece++ {
			var n int
			must(rows.Scan(&n))
			equal(n, fetched+piece+1)
		}
		must(rows.Err())
		equal(piece, map[bool]int{true: 100, false: 0}[fetched < 1000])
	}
	must(tx.Commit(ctx))
	_, err = conn.Exec(ctx, "fetch 1 from pieces") // it ended with its transaction
	expect("34000", err)
	return ""
}

func copies() string {
	conn := connect()
	defer conn.Close(ctx)
	var rows [][]interface{}
	for i := 0; i < 20000; i++ {
		rows = append(rows, []interface{}{int32(i), fmt.Sprint("name ", i, words)})
	}
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "name"}, pgx.CopyFromRows(rows)) // binary
	must(err)
	equal(count, int64(20000))
	var out bytes.Buffer
	_, err = conn.PgConn().CopyTo(ctx, &out, "copy (select id from items order by id) to stdout")
	must(err)
	equal(strings.Count(out.String(), "\n"), 20000)
	execute(conn, "delete from items")
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("1\tone\nx\tbad\n"), "copy items (id, name) from stdin")
	expect("22P02", err)
	failing := pgx.CopyFromSlice(10, func(i int) ([]interface{}, error) {
		if i == 5 {
			return nil, errors.New("the source fails")
		}
		return []interface{}{int32(i), "name"}, nil
	})
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "name"}, failing)
	expect("57014", err)
	equal(number(conn, "select count(*) from items"), 0)
	return ""
}

func cancel() string {
	conn, other := connect(), connect()
	defer conn.Close(ctx)
	defer other.Close(ctx)
	done := make(chan error)
	go func() {
		_, err := conn.Exec(ctx, "select pg_sleep(20)")
		done <- err
	}()
	for number(other, sleeping) == 0 {
		time.Sleep(20 * time.Millisecond)
	}
	must(conn.PgConn().CancelRequest(ctx))
	expect("57014", <-done)
	equal(number(conn, "select 7"), 7)
	// A context that ends: pgx cancels the query and closes the connection.
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err := conn.Exec(short, "select pg_sleep(20)")
	equal(pgconn.Timeout(err), true)
	for number(other, sleeping) != 0 {
		time.Sleep(20 * time.Millisecond)
	}
	return ""
}

func largeValues() string {
	conn := connect()
	defer conn.Close(ctx)
	text, raw := largeText(), largeBytes()
	var gotText string
	var gotRaw []byte
	must(conn.QueryRow(ctx, "select $1::text, $2::bytea", text, raw).Scan(&gotText, &gotRaw))
	equal(gotText == text, true)
	equal(bytes.Equal(gotRaw, raw), true)
	return ""
}

func loads() string { // through pgx's own pool, as most use it; each worker keeps its connection
	config, err := pgxpool.ParseConfig("pool_max_conns=32")
	must(err)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	must(err)
	defer pool.Close()
	return load(func(token string, more func() bool) int {
		conn, err := pool.Acquire(ctx)
		must(err)
		defer conn.Release()
		committed := 0
		for round := 1; more(); round++ {
			var gotToken string
			var got int
			must(conn.QueryRow(ctx, "select $1::text, $2::int", token, round).Scan(&gotToken, &got))
			equal(gotToken, token)
			equal(got, round)
			tx, err := conn.Begin(ctx)
			must(err)
			must(tx.QueryRow(ctx, "insert into load values ($1, $2) returning token, seq", token, committed).Scan(&gotToken, &got))
			equal(gotToken, token)
			equal(got, committed)
			equal(number(tx, "select count(*) from load where token = $1", token), committed+1)
			if round%7 == 0 {
				_, err = tx.Exec(ctx, "select 1 / ($1::int - $2::int)", round, round)
				expect("22012", err)
			}
			if round%7 == 0 || round%5 == 0 {
				must(tx.Rollback(ctx))
			} else {
				must(tx.Commit(ctx))
				committed++
			}
			batch := &pgx.Batch{}
			for i := 0; i < 5; i++ {
				batch.Queue("select $1::text || $2::text", token, fmt.Sprint(i))
			}
			results := conn.SendBatch(ctx, batch)
			for i := 0; i < 5; i++ {
				must(results.QueryRow().Scan(&gotToken))
				equal(gotToken, token+fmt.Sprint(i))
			}
			must(results.Close())
			rows, err := conn.Query(ctx, "select $1::text || n from generate_series(1, 50) n", token)
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
	version, err := exec.Command("dpkg-query", "-W", "-f=${Version}", "golang-github-jackc-pgx-v4-dev").Output()
	must(err)
	fmt.Println("version pgx", strings.Split(string(version), "-")[0], "(Go)")
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
