/* libpq in C at its defaults: PQexec, PQexecParams, PQprepare, pipeline mode, COPY, PQcancel; everything from PG* variables.
 * Prints a line for each check, as tests/drivers/run wants it. A check ends at its first fault (fail() jumps out). */
#include <libpq-fe.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Thread_local jmp_buf *give_up;
static _Thread_local char reason[600];

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    for (char *at = reason; *at; ++at)
        if (*at == '\n')
            *at = ' ';
    longjmp(*give_up, 1);
}

#define ensure(condition) \
    do { if (!(condition)) fail("line %d: %s", __LINE__, #condition); } while (0)

static PGconn *connect_default(void)
{
    PGconn *c = PQconnectdb("");
    if (PQstatus(c) != CONNECTION_OK)
        fail("%s", PQerrorMessage(c));
    return c;
}

static void expect_status(PGresult *r, ExecStatusType status, int line)
{
    if (PQresultStatus(r) != status)
        fail("line %d: %s instead of %s: %s", line, PQresStatus(PQresultStatus(r)), PQresStatus(status), PQresultErrorMessage(r));
}

static void expect_error(PGresult *r, const char *sqlstate, int line)
{
    const char *got = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (!got || strcmp(got, sqlstate) != 0)
        fail("line %d: %s instead of %s: %s", line, got ? got : "no error", sqlstate, PQresultErrorMessage(r));
    PQclear(r);
}

static void expect_value(PGresult *r, int row, int column, const char *value, int line)
{
    expect_status(r, PGRES_TUPLES_OK, line);
    if (row >= PQntuples(r) || column >= PQnfields(r))
        fail("line %d: %d rows of %d columns", line, PQntuples(r), PQnfields(r));
    if (strcmp(PQgetvalue(r, row, column), value) != 0)
        fail("line %d: '%.100s', not '%.100s'", line, PQgetvalue(r, row, column), value);
}

static void expect_one(PGresult *r, const char *value, int line)
{
    expect_value(r, 0, 0, value, line);
    PQclear(r);
}

static void expect_done(PGresult *r, int line)
{
    expect_status(r, PGRES_COMMAND_OK, line);
    PQclear(r);
}

#define ERROR(result, sqlstate) expect_error(result, sqlstate, __LINE__)
#define ONE(result, value) expect_one(result, value, __LINE__)
#define DONE(result) expect_done(result, __LINE__)

/* The next results in pipeline mode, each followed by the NULL that ends its query. */
static PGresult *next(PGconn *c, int line)
{
    PGresult *r = PQgetResult(c);
    if (!r)
        fail("line %d: no result: %s", line, PQerrorMessage(c));
    if (PQresultStatus(r) != PGRES_PIPELINE_SYNC && PQgetResult(c))
        fail("line %d: a second result", line);
    return r;
}
#define NEXT(c) next(c, __LINE__)

static const char *text(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static const char *text(char *buffer, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, size, format, arguments);
    va_end(arguments);
    return buffer;
}
#define TEXT(buffer, ...) text(buffer, sizeof buffer, __VA_ARGS__)

/* ---- the checks ---- */

static void check_connect(void)
{
    PGconn *c = connect_default();
    ONE(PQexec(c, "select current_user"), PQuser(c));
    ONE(PQexec(c, "select current_database()"), PQdb(c));
    ensure(strcmp(PQparameterStatus(c, "client_encoding"), "UTF8") == 0);
    ensure(PQserverVersion(c) > 90000);
    PQreset(c);
    ONE(PQexec(c, "select 1"), "1");
    PQfinish(c);
    c = PQconnectdb("password=wrong");
    ensure(PQstatus(c) == CONNECTION_BAD);
    ensure(strstr(PQerrorMessage(c), "authentication failed"));
    PQfinish(c);
}

static void check_types(void)
{
    static const char *sent[] = {"42", "9007199254740993", "gr\xc3\xbc\xc3\x9f" "e 'quoted' \\ \xf0\x9f\x98\x80", "0.1", "-1e+300", "t",
                                 "2024-02-29 12:34:56.789012", "2024-02-29 12:34:56.789012+00", "\\x00017fff",
                                 "12345678901234567890.123456789", NULL, "{1,-2,3}", "{a,\"b c\",NULL}", "{\"a\": [1, 2.5, null]}"};
    enum { COUNT = sizeof sent / sizeof *sent };
    PGconn *c = connect_default();
    PGresult *r = PQexecParams(c, "select $1::int4, $2::int8, $3::text, $4::float8, $5::float8, $6::bool, $7::timestamp,"
                                  " $8::timestamptz, $9::bytea, $10::numeric, $11::text, $12::int[], $13::text[], $14::jsonb",
                               COUNT, NULL, sent, NULL, NULL, 0);
    for (int i = 0; i < COUNT; ++i) {
        if (sent[i])
            expect_value(r, 0, i, sent[i], __LINE__);
        else
            ensure(PQgetisnull(r, 0, i));
    }
    PQclear(r);
    static const char four[4] = {0, 0, 1, 2}, bytes[5] = {0, 1, 0, (char)0xff, 0};
    const char *values[] = {four, bytes, NULL};
    const int lengths[] = {4, 5, 0}, formats[] = {1, 1, 1};
    const Oid types[] = {23, 17, 23};
    r = PQexecParams(c, "select $1, $2, $3", 3, types, values, lengths, formats, 1);
    expect_status(r, PGRES_TUPLES_OK, __LINE__);
    ensure(PQgetlength(r, 0, 0) == 4 && memcmp(PQgetvalue(r, 0, 0), four, 4) == 0);
    ensure(PQgetlength(r, 0, 1) == 5 && memcmp(PQgetvalue(r, 0, 1), bytes, 5) == 0);
    ensure(PQgetisnull(r, 0, 2) && PQftype(r, 1) == 17);
    PQclear(r);
    PQfinish(c);
}

static void check_prepared(void)
{
    PGconn *c = connect_default(), *other = connect_default();
    char value[40], expected[40];
    DONE(PQprepare(c, "plus", "select $1::int + 1", 0, NULL));
    DONE(PQprepare(other, "plus", "select 'other ' || $1::text", 0, NULL)); /* same name, another text */
    for (int i = 0; i < 40; ++i) {
        const char *values[] = {TEXT(value, "%d", i)};
        if (i % 3 == 0)
            DONE(PQexec(other, "begin")); /* takes the server that `c` had */
        ONE(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0), TEXT(expected, "%d", i + 1));
        ONE(PQexecPrepared(other, "plus", 1, values, NULL, NULL, 0), TEXT(expected, "other %d", i));
        if (i % 3 == 1)
            DONE(PQexec(other, "rollback"));
    }
    DONE(PQexec(other, "rollback"));
    PGresult *r = PQdescribePrepared(c, "plus");
    expect_status(r, PGRES_COMMAND_OK, __LINE__);
    ensure(PQnparams(r) == 1 && PQparamtype(r, 0) == 23 && PQnfields(r) == 1);
    PQclear(r);
    for (int i = 0; i < 250; ++i) { /* more than max_prepared_statements, and all of them used again */
        char name[20], sql[60];
        DONE(PQprepare(c, TEXT(name, "s%d", i), TEXT(sql, "select %d + $1::int", i), 0, NULL));
    }
    for (int i = 0; i < 250; ++i) {
        char name[20];
        const char *values[] = {"1"};
        ONE(PQexecPrepared(c, TEXT(name, "s%d", i), 1, values, NULL, NULL, 0), TEXT(expected, "%d", i + 1));
    }
    ERROR(PQprepare(c, "plus", "select 1", 0, NULL), "42P05");
    ERROR(PQexecPrepared(c, "unknown", 0, NULL, NULL, NULL, 0), "26000");
    ERROR(PQprepare(c, "bad", "selec 1", 0, NULL), "42601");
    ERROR(PQexecPrepared(c, "bad", 0, NULL, NULL, NULL, 0), "26000");
    DONE(PQexec(c, "deallocate plus"));
    const char *values[] = {"1"};
    ERROR(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0), "26000");
    DONE(PQprepare(c, "plus", "select $1::int + 100", 0, NULL));
    ONE(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0), "101");
    ONE(PQexecPrepared(other, "plus", 1, values, NULL, NULL, 0), "other 1");
    DONE(PQexec(c, "deallocate all"));
    ERROR(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0), "26000");
    ERROR(PQexecPrepared(c, "s1", 1, values, NULL, NULL, 0), "26000");
    ONE(PQexecPrepared(other, "plus", 1, values, NULL, NULL, 0), "other 1");
    /* Prepared in a transaction that is rolled back: PostgreSQL keeps it. */
    DONE(PQexec(c, "begin"));
    DONE(PQprepare(c, "kept", "select 'kept'", 0, NULL));
    DONE(PQexec(c, "rollback"));
    ONE(PQexecPrepared(c, "kept", 0, NULL, NULL, NULL, 0), "kept");
    PQfinish(c);
    PQfinish(other);
}

static void check_transactions(void)
{
    PGconn *c = connect_default(), *other = connect_default();
    DONE(PQexec(c, "begin"));
    DONE(PQexec(c, "insert into items values (1, 'one')"));
    ensure(PQtransactionStatus(c) == PQTRANS_INTRANS);
    ONE(PQexec(other, "select count(*) from items"), "0");
    DONE(PQexec(c, "commit"));
    ensure(PQtransactionStatus(c) == PQTRANS_IDLE);
    ONE(PQexec(other, "select count(*) from items"), "1");
    DONE(PQexec(c, "begin isolation level serializable"));
    DONE(PQexec(c, "insert into items values (2, 'two')"));
    DONE(PQexec(c, "savepoint before"));
    ERROR(PQexec(c, "insert into items values (1, 'again')"), "23505");
    ensure(PQtransactionStatus(c) == PQTRANS_INERROR);
    DONE(PQexec(c, "rollback to before"));
    DONE(PQexec(c, "insert into items values (3, 'three')"));
    DONE(PQexec(c, "commit"));
    DONE(PQexec(c, "begin"));
    DONE(PQexec(c, "delete from items"));
    DONE(PQexec(c, "rollback"));
    ONE(PQexec(other, "select count(*) from items"), "3");
    DONE(PQexec(c, "delete from items"));
    PQfinish(c);
    PQfinish(other);
}

static void check_errors(void)
{
    PGconn *c = connect_default();
    const char *zero[] = {"0"};
    ERROR(PQexec(c, "selec 1"), "42601");
    ERROR(PQexecParams(c, "selec $1", 1, NULL, zero, NULL, NULL, 0), "42601");
    DONE(PQexec(c, "insert into items values (1, 'one')"));
    PGresult *r = PQexec(c, "insert into items values (1, 'again')");
    ensure(PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME) && PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL));
    ERROR(r, "23505");
    ERROR(PQexec(c, "insert into items values (2, null)"), "23502");
    DONE(PQexec(c, "delete from items"));
    DONE(PQexec(c, "begin"));
    ERROR(PQexecParams(c, "select 1 / $1::int", 1, NULL, zero, NULL, NULL, 0), "22012");
    ERROR(PQexec(c, "select 1"), "25P02");
    DONE(PQexec(c, "commit")); /* a failed transaction is rolled back */
    ONE(PQexec(c, "select 7"), "7");
    r = PQexec(c, ""); /* the empty query */
    expect_status(r, PGRES_EMPTY_QUERY, __LINE__);
    PQclear(r);
    PQfinish(c);
}

static void send_int(PGconn *c, const char *sql, int number)
{
    char value[20];
    const char *values[] = {TEXT(value, "%d", number)};
    if (!PQsendQueryParams(c, sql, 1, NULL, values, NULL, NULL, 0))
        fail("%s", PQerrorMessage(c));
}

static void expect_sync(PGconn *c, int line)
{
    PGresult *r = next(c, line);
    expect_status(r, PGRES_PIPELINE_SYNC, line);
    PQclear(r);
}

static void check_pipeline(void)
{
    PGconn *c = connect_default(), *other = connect_default();
    char expected[40];
    for (int round = 0; round < 10; ++round) {
        if (round % 2)
            DONE(PQexec(other, "begin")); /* takes the server that `c` had */
        ensure(PQenterPipelineMode(c));
        for (int batch = 0; batch < 5; ++batch) {
            for (int i = 0; i < 20; ++i)
                send_int(c, "select $1::int * 2", i);
            ensure(PQpipelineSync(c));
        }
        for (int batch = 0; batch < 5; ++batch) {
            for (int i = 0; i < 20; ++i)
                ONE(NEXT(c), TEXT(expected, "%d", 2 * i));
            expect_sync(c, __LINE__);
        }
        /* An error in the middle: the rest up to the Sync is aborted, what comes after it is not. */
        send_int(c, "select $1::int", 1);
        send_int(c, "select 1 / $1::int", 0);
        send_int(c, "select $1::int", 3);
        ensure(PQpipelineSync(c));
        send_int(c, "select $1::int", 4);
        ensure(PQpipelineSync(c));
        ONE(NEXT(c), "1");
        ERROR(NEXT(c), "22012");
        PGresult *r = NEXT(c);
        expect_status(r, PGRES_PIPELINE_ABORTED, __LINE__);
        PQclear(r);
        expect_sync(c, __LINE__);
        ONE(NEXT(c), "4");
        expect_sync(c, __LINE__);
        /* Prepared in the pipeline and used there; Flush without Sync; a transaction over two Syncs. */
        char name[20];
        ensure(PQsendPrepare(c, TEXT(name, "p%d", round), "select $1::int + 5", 0, NULL));
        const char *values[] = {"6"};
        ensure(PQsendQueryPrepared(c, name, 1, values, NULL, NULL, 0));
        ensure(PQsendFlushRequest(c));
        DONE(NEXT(c));
        ONE(NEXT(c), "11");
        ensure(PQsendQueryParams(c, "begin", 0, NULL, NULL, NULL, NULL, 0));
        ensure(PQsendQueryParams(c, "insert into items values (1, 'one')", 0, NULL, NULL, NULL, NULL, 0));
        ensure(PQpipelineSync(c));
        ensure(PQsendQueryPrepared(c, name, 1, values, NULL, NULL, 0));
        ensure(PQsendQueryParams(c, "rollback", 0, NULL, NULL, NULL, NULL, 0));
        ensure(PQpipelineSync(c));
        DONE(NEXT(c));
        DONE(NEXT(c));
        expect_sync(c, __LINE__);
        ONE(NEXT(c), "11");
        DONE(NEXT(c));
        expect_sync(c, __LINE__);
        ensure(PQexitPipelineMode(c));
        ONE(PQexecPrepared(c, name, 1, values, NULL, NULL, 0), "11");
        ONE(PQexec(c, "select count(*) from items"), "0");
        if (round % 2)
            DONE(PQexec(other, "rollback"));
    }
    /* Several statements in one simple query. */
    ensure(PQsendQuery(c, "select 1; select 2; insert into items values (9, 'nine'); select 1/0; select 3"));
    ONE(PQgetResult(c), "1");
    ONE(PQgetResult(c), "2");
    DONE(PQgetResult(c));
    ERROR(PQgetResult(c), "22012");
    ensure(!PQgetResult(c));
    ONE(PQexec(c, "select count(*) from items"), "0");
    PQfinish(c);
    PQfinish(other);
}

static void check_cursor(void)
{
    PGconn *c = connect_default();
    char expected[20];
    DONE(PQexec(c, "begin"));
    DONE(PQexec(c, "declare pieces cursor for select n from generate_series(1, 1000) n"));
    for (int at = 0; at < 1000; at += 100) {
        PGresult *r = PQexec(c, "fetch 100 from pieces");
        for (int i = 0; i < 100; ++i)
            expect_value(r, i, 0, TEXT(expected, "%d", at + i + 1), __LINE__);
        PQclear(r);
    }
    DONE(PQexec(c, "close pieces"));
    DONE(PQexec(c, "commit"));
    ensure(PQsendQuery(c, "select n from generate_series(1, 1000) n") && PQsetSingleRowMode(c));
    int rows = 0;
    for (PGresult *r; (r = PQgetResult(c)); PQclear(r))
        if (PQresultStatus(r) == PGRES_SINGLE_TUPLE)
            ensure(atoi(PQgetvalue(r, 0, 0)) == ++rows);
    ensure(rows == 1000);
    PQfinish(c);
}

static void start_copy(PGconn *c, const char *sql, ExecStatusType status)
{
    PGresult *r = PQexec(c, sql);
    expect_status(r, status, __LINE__);
    PQclear(r);
}

static void check_copy(void)
{
    PGconn *c = connect_default();
    char line[80], *got;
    start_copy(c, "copy items (id, name) from stdin", PGRES_COPY_IN);
    for (int i = 0; i < 20000; ++i) {
        TEXT(line, "%d\tname %d\n", i, i);
        ensure(PQputCopyData(c, line, (int)strlen(line)) == 1);
    }
    ensure(PQputCopyEnd(c, NULL) == 1);
    DONE(PQgetResult(c));
    ensure(!PQgetResult(c));
    start_copy(c, "copy (select id, name from items order by id) to stdout", PGRES_COPY_OUT);
    int rows = 0;
    while (PQgetCopyData(c, &got, 0) > 0) {
        ensure(strcmp(got, TEXT(line, "%d\tname %d\n", rows, rows)) == 0);
        PQfreemem(got);
        ++rows;
    }
    ensure(rows == 20000);
    DONE(PQgetResult(c));
    ensure(!PQgetResult(c));
    DONE(PQexec(c, "delete from items"));
    /* Bad rows, with more to come after the error. */
    start_copy(c, "copy items (id, name) from stdin", PGRES_COPY_IN);
    for (int i = 0; i < 20000; ++i) {
        TEXT(line, i == 10 ? "x\tbad %d\n" : "%d\tname\n", i);
        if (PQputCopyData(c, line, (int)strlen(line)) != 1)
            break;
    }
    PQputCopyEnd(c, NULL);
    ERROR(PQgetResult(c), "22P02");
    ensure(!PQgetResult(c));
    /* The source fails. */
    start_copy(c, "copy items (id, name) from stdin", PGRES_COPY_IN);
    ensure(PQputCopyData(c, "1\tone\n", 6) == 1 && PQputCopyEnd(c, "no more") == 1);
    ERROR(PQgetResult(c), "57014");
    ensure(!PQgetResult(c));
    /* An error in the middle of COPY OUT. */
    start_copy(c, "copy (select 1 / (500 - n) from generate_series(1, 1000) n) to stdout", PGRES_COPY_OUT);
    while (PQgetCopyData(c, &got, 0) > 0)
        PQfreemem(got);
    ERROR(PQgetResult(c), "22012");
    ensure(!PQgetResult(c));
    ONE(PQexec(c, "select count(*) from items"), "0");
    PQfinish(c);
}

static void check_cancel(void)
{
    PGconn *c = connect_default(), *other = connect_default();
    for (int round = 0; round < 3; ++round) {
        char words[256];
        if (round == 2) /* in a transaction */
            DONE(PQexec(c, "begin"));
        ensure(PQsendQuery(c, "select pg_sleep(20)"));
        for (bool running = false; !running;) {
            PGresult *r = PQexec(other, "select 1 from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'");
            running = PQntuples(r) == 1;
            PQclear(r);
            usleep(20000);
        }
        PGcancel *cancel = PQgetCancel(c);
        if (!PQcancel(cancel, words, sizeof words))
            fail("PQcancel: %s", words);
        PQfreeCancel(cancel);
        ERROR(PQgetResult(c), "57014");
        ensure(!PQgetResult(c));
        if (round == 2)
            DONE(PQexec(c, "rollback"));
        ONE(PQexec(c, "select 7"), "7");
    }
    PQfinish(c);
    PQfinish(other);
}

static void check_large(void)
{
    enum { SIZE = 8 << 20 };
    PGconn *c = connect_default();
    char *value = malloc(SIZE + 1);
    for (int i = 0; i < SIZE; ++i)
        value[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[i % 36];
    value[SIZE] = 0;
    const char *values[] = {value};
    ONE(PQexecParams(c, "select $1::text", 1, NULL, values, NULL, NULL, 0), value);
    char *literal = malloc(SIZE + 20);
    sprintf(literal, "select '%s'", value);
    ONE(PQexec(c, literal), value);
    for (int i = 0; i < SIZE; ++i)
        value[i] = (char)(i * 31);
    const int lengths[] = {SIZE}, formats[] = {1};
    PGresult *r = PQexecParams(c, "select $1::bytea", 1, NULL, values, lengths, formats, 1);
    expect_status(r, PGRES_TUPLES_OK, __LINE__);
    ensure(PQgetlength(r, 0, 0) == SIZE && memcmp(PQgetvalue(r, 0, 0), value, SIZE) == 0);
    PQclear(r);
    free(literal);
    free(value);
    PQfinish(c);
}

/* ---- the load ---- */

struct worker {
    pthread_t thread;
    int number, committed;
    double until;
    char reason[sizeof reason]; /* empty: all was well */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* One statement in the manner of this worker: parameters, prepared, or prepared in a pipeline. */
static PGresult *run(PGconn *c, int manner, const char *name, const char *sql, int count, const char *const *values)
{
    if (manner == 0)
        return PQexecParams(c, sql, count, NULL, values, NULL, NULL, 0);
    if (manner == 1)
        return PQexecPrepared(c, name, count, values, NULL, NULL, 0);
    ensure(PQenterPipelineMode(c));
    ensure(PQsendQueryPrepared(c, name, count, values, NULL, NULL, 0) && PQpipelineSync(c));
    PGresult *r = NEXT(c);
    expect_sync(c, __LINE__);
    ensure(PQexitPipelineMode(c));
    return r;
}

static void work(struct worker *w)
{
    static const char *const statements[][2] = {
        {"echo", "select $1::text, $2::int"},
        {"insert", "insert into load values ($1, $2) returning token, seq"},
        {"count", "select count(*) from load where token = $1"},
        {"divide", "select 1 / ($1::int - $1::int)"},
        {"series", "select $1 || n from generate_series(1, 50) n"},
    };
    const int manner = w->number % 3;
    PGconn *c = connect_default();
    for (size_t i = 0; manner && i < sizeof statements / sizeof *statements; ++i)
        DONE(PQprepare(c, statements[i][0], statements[i][1], 0, NULL));
#define RUN(index, count, values) run(c, manner, statements[index][0], statements[index][1], count, values)
    char token[60], number[20], seq[20], expected[80];
    TEXT(token, "w%d-%d-%lx", w->number, (int)getpid(), (unsigned long)(uintptr_t)w);
    for (int round = 1; round == 1 || now() < w->until; ++round) {
        const char *echo[] = {token, TEXT(number, "%d", round)}, *insert[] = {token, TEXT(seq, "%d", w->committed)};
        PGresult *r = RUN(0, 2, echo);
        expect_value(r, 0, 0, token, __LINE__);
        expect_value(r, 0, 1, number, __LINE__);
        PQclear(r);
        DONE(PQexec(c, "begin"));
        r = RUN(1, 2, insert);
        expect_value(r, 0, 0, token, __LINE__);
        expect_value(r, 0, 1, seq, __LINE__);
        PQclear(r);
        ONE(RUN(2, 1, insert), TEXT(expected, "%d", w->committed + 1));
        if (round % 7 == 0)
            ERROR(RUN(3, 1, echo + 1), "22012");
        if (round % 7 == 0 || round % 5 == 0) {
            DONE(PQexec(c, "rollback"));
        } else {
            DONE(PQexec(c, "commit"));
            ++w->committed;
        }
        r = RUN(4, 1, echo);
        ensure(PQntuples(r) == 50);
        for (int i = 0; i < 50; ++i)
            expect_value(r, i, 0, TEXT(expected, "%s%d", token, i + 1), __LINE__);
        PQclear(r);
    }
    const char *values[] = {token};
    ONE(RUN(2, 1, values), TEXT(expected, "%d", w->committed));
    PQfinish(c);
}

static void *worker_thread(void *argument)
{
    struct worker *w = argument;
    jmp_buf place;
    give_up = &place;
    if (setjmp(place) == 0)
        work(w);
    else
        memcpy(w->reason, reason, sizeof reason);
    return NULL;
}

static void check_load(void)
{
    enum { MOST = 64 };
    static struct worker workers[MOST];
    const int count = atoi(getenv("WORKERS"));
    int committed = 0;
    ensure(count <= MOST);
    for (int i = 0; i < count; ++i) {
        workers[i].number = i;
        workers[i].until = now() + atof(getenv("SECONDS"));
        ensure(pthread_create(&workers[i].thread, NULL, worker_thread, &workers[i]) == 0);
    }
    for (int i = 0; i < count; ++i)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < count; ++i) {
        if (*workers[i].reason)
            fail("%s", workers[i].reason);
        committed += workers[i].committed;
    }
    printf("ok load %d\n", committed);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*check)(void);
    } checks[] = {{"connect", check_connect}, {"types", check_types},   {"prepared", check_prepared}, {"transactions", check_transactions},
                  {"errors", check_errors},   {"pipeline", check_pipeline}, {"cursor", check_cursor}, {"copy", check_copy},
                  {"cancel", check_cancel},   {"large", check_large},   {"load", check_load}};
    jmp_buf place;
    printf("version libpq %d.%d (C)\n", PQlibVersion() / 10000, PQlibVersion() % 10000);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; ++i) {
        give_up = &place;
        if (setjmp(place) != 0) {
            printf("fail %s %s\n", checks[i].name, reason);
        } else {
            checks[i].check();
            if (strcmp(checks[i].name, "load") != 0)
                printf("ok %s\n", checks[i].name);
        }
        fflush(stdout);
    }
    return 0;
}
