// The console by pgx 4 at its defaults: extended protocol, a statement prepared for each text, binary results.
// Where to connect comes from PG* variables. Prints a line for each check: `ok NAME`, or `fail NAME reason`.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v4"
)

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "")
	if err != nil {
		fmt.Println("fail connect", err)
		os.Exit(1)
	}
	defer conn.Close(ctx)
	fmt.Println("ok connect")
	for _, table := range []string{"POOLS", "CLIENTS", "SERVERS", "DATABASES", "STATS", "LISTS", "CONFIG", "USERS"} {
		rows, err := conn.Query(ctx, "SHOW "+table)
		if err != nil {
			fmt.Println("fail "+table, err)
			continue
		}
		count := 0
		for rows.Next() {
			if _, err = rows.Values(); err != nil {
				break
			}
			count++
		}
		if err == nil {
			err = rows.Err()
		}
		if err != nil || count == 0 {
			fmt.Println("fail "+table, count, "rows", err)
		} else {
			fmt.Println("ok " + table)
		}
	}
	for _, command := range []string{"RELOAD", "PAUSE bench", "RESUME bench"} {
		if _, err := conn.Exec(ctx, command); err != nil {
			fmt.Println("fail "+command, err)
		} else {
			fmt.Println("ok " + command)
		}
	}
	if _, err := conn.Exec(ctx, "PAUSE nowhere"); err == nil {
		fmt.Println("fail error: there was none")
	} else {
		fmt.Println("ok error")
	}
}
