// pgjdbc at its defaults: a statement is prepared under a name at its fifth execution (prepareThreshold 5).
// Where to connect comes from PG* variables. Prints a line for each check, as tests/drivers/run wants it.
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

final class Pgjdbc {
    private static final String TEXT = "grüße ☃ 😀 'quoted' \\ \t\n";
    private static final int LARGE = 8 << 20;

    interface Check {
        String run() throws Exception;
    }

    interface Action {
        void run() throws Exception;
    }

    static Connection connect() throws SQLException {
        return connect(System.getenv("PGPASSWORD"));
    }

    static Connection connect(String password) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", password);
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE"), properties);
    }

    static void equal(Object got, Object expected) {
        boolean same = got instanceof byte[] ? Arrays.equals((byte[]) got, (byte[]) expected) : Objects.equals(got, expected);
        if (!same) {
            throw new AssertionError("got " + shown(got) + ", not " + shown(expected));
        }
    }

    static String shown(Object value) {
        String text = String.valueOf(value);
        return text.length() > 200 ? text.substring(0, 200) + "..." : text;
    }

    static void expect(String sqlstate, Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException error) {
            if (sqlstate.equals(error.getSQLState())) {
                return;
            }
            throw error;
        }
        throw new AssertionError(sqlstate + " expected");
    }

    static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static int one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getInt(1);
        }
    }

    static String connects() throws Exception {
        try (Connection one = connect(); Statement statement = one.createStatement()) {
            ResultSet rows = statement.executeQuery("select current_user, current_database()");
            rows.next();
            equal(rows.getString(1) + " " + rows.getString(2), System.getenv("PGUSER") + " " + System.getenv("PGDATABASE"));
            equal(one.isValid(5), true);
            equal(one.getMetaData().getTables(null, null, "items", null).next(), true);
            one.setReadOnly(true);
            one.setAutoCommit(false);
            expect("25006", () -> execute(one, "insert into items values (1, 'one')"));
            one.rollback();
        }
        expect("28P01", () -> connect("wrong").close());
        return "";
    }

    static String types() throws Exception {
        try (Connection one = connect();
             PreparedStatement statement = one.prepareStatement(
                 "select ?::int4, ?::int8, ?::text, ?::float8, ?::bool, ?::timestamp, ?::timestamptz, ?::bytea, ?::numeric, ?::text,"
                 + " ?::int[], ?::text[], ?::jsonb, ?::uuid")) {
            for (int round = 0; round < 12; ++round) { // text at first, named and binary after the fifth
                byte[] bytes = {0, 1, 127, -1, (byte) round};
                LocalDateTime stamp = LocalDateTime.of(2024, 2, 29, 12, 34, 56, 789012000);
                BigDecimal numeric = new BigDecimal("12345678901234567890.123456789");
                UUID uuid = UUID.randomUUID();
                PGobject json = new PGobject();
                json.setType("jsonb");
                json.setValue("{\"a\": [1, 2.5, null]}");
                statement.setInt(1, round);
                statement.setLong(2, 9007199254740993L);
                statement.setString(3, TEXT);
                statement.setDouble(4, -1e300);
                statement.setBoolean(5, true);
                statement.setObject(6, stamp);
                statement.setObject(7, stamp.atOffset(ZoneOffset.UTC));
                statement.setBytes(8, bytes);
                statement.setBigDecimal(9, numeric);
                statement.setNull(10, Types.VARCHAR);
                statement.setArray(11, one.createArrayOf("int4", new Object[] {1, -2, null}));
                statement.setArray(12, one.createArrayOf("text", new Object[] {"a", "b c", "\""}));
                statement.setObject(13, json);
                statement.setObject(14, uuid);
                try (ResultSet rows = statement.executeQuery()) {
                    equal(rows.next(), true);
                    equal(rows.getInt(1), round);
                    equal(rows.getLong(2), 9007199254740993L);
                    equal(rows.getString(3), TEXT);
                    equal(rows.getDouble(4), -1e300);
                    equal(rows.getBoolean(5), true);
                    equal(rows.getObject(6, LocalDateTime.class), stamp);
                    equal(rows.getObject(7, OffsetDateTime.class), stamp.atOffset(ZoneOffset.UTC));
                    equal(rows.getBytes(8), bytes);
                    equal(rows.getBigDecimal(9), numeric);
                    equal(rows.getString(10), null);
                    Array numbers = rows.getArray(11);
                    Array words = rows.getArray(12);
                    equal(Arrays.toString((Object[]) numbers.getArray()), "[1, -2, null]");
                    equal(Arrays.toString((Object[]) words.getArray()), "[a, b c, \"]");
                    equal(rows.getString(13), "{\"a\": [1, 2.5, null]}");
                    equal(rows.getObject(14), uuid);
                    equal(rows.next(), false);
                }
            }
        }
        return "";
    }

    static String prepared() throws Exception {
        try (Connection one = connect(); Connection other = connect()) {
            PreparedStatement mine = one.prepareStatement("select ?::int + 1, 'mine'");
            PreparedStatement theirs = other.prepareStatement("select ?::text || 'other'"); // S_1 at both
            other.setAutoCommit(false);
            for (int number = 0; number < 40; ++number) {
                if (number % 3 == 0) {
                    execute(other, "select 1"); // begins: takes the server that `one` had
                }
                mine.setInt(1, number);
                try (ResultSet rows = mine.executeQuery()) {
                    rows.next();
                    equal(rows.getInt(1) + rows.getString(2), number + 1 + "mine");
                }
                theirs.setString(1, "x" + number);
                try (ResultSet rows = theirs.executeQuery()) {
                    rows.next();
                    equal(rows.getString(1), "x" + number + "other");
                }
                if (number % 3 == 1) {
                    other.rollback();
                }
            }
            other.rollback();
            equal(mine.unwrap(org.postgresql.PGStatement.class).isUseServerPrepare(), true);
            for (int number = 0; number < 300; ++number) { // more than preparedStatementCacheQueries (256): the oldest are closed
                for (int again = 0; again < 6; ++again) {
                    try (PreparedStatement each = one.prepareStatement("select ?::int + " + number)) {
                        each.setInt(1, again);
                        try (ResultSet rows = each.executeQuery()) {
                            rows.next();
                            equal(rows.getInt(1), number + again);
                        }
                    }
                }
            }
            // The table changes under a prepared statement: pgjdbc hears of it by the server's 0A000, and prepares anew.
            execute(one, "create table changing (a int)");
            try (PreparedStatement all = one.prepareStatement("select * from changing")) {
                for (int round = 0; round < 10; ++round) {
                    all.executeQuery().close();
                }
                execute(other, "alter table changing add b int");
                other.commit();
                try (ResultSet rows = all.executeQuery()) {
                    equal(rows.getMetaData().getColumnCount(), 2);
                }
            } finally {
                execute(one, "drop table changing");
            }
        }
        return "";
    }

    static String transactions() throws Exception {
        try (Connection one = connect(); Connection other = connect()) {
            one.setAutoCommit(false);
            execute(one, "insert into items values (1, 'one')");
            equal(one(other, "select count(*) from items"), 0);
            one.commit();
            equal(one(other, "select count(*) from items"), 1);
            execute(one, "insert into items values (2, 'two')");
            one.rollback();
            one.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            execute(one, "insert into items values (3, 'three')");
            Savepoint before = one.setSavepoint("before");
            expect("23505", () -> execute(one, "insert into items values (3, 'again')"));
            one.rollback(before);
            Savepoint unnamed = one.setSavepoint();
            execute(one, "insert into items values (4, 'four')");
            one.releaseSavepoint(unnamed);
            one.commit();
            equal(one(other, "select count(*) from items"), 3);
            execute(other, "delete from items");
        }
        return "";
    }

    static String errors() throws Exception {
        try (Connection one = connect()) {
            expect("42601", () -> execute(one, "selec 1"));
            execute(one, "insert into items values (1, 'one')");
            expect("23505", () -> execute(one, "insert into items values (1, 'again')"));
            expect("23502", () -> execute(one, "insert into items values (2, null)"));
            execute(one, "delete from items");
            one.setAutoCommit(false);
            try (PreparedStatement divide = one.prepareStatement("select 1 / ?")) {
                for (int round = 0; round < 10; ++round) {
                    divide.setInt(1, 0);
                    expect("22012", () -> divide.executeQuery().close());
                    expect("25P02", () -> execute(one, "select 1"));
                    one.rollback();
                    divide.setInt(1, 1);
                    divide.executeQuery().close();
                    one.commit();
                }
            }
            equal(one(one, "select 7"), 7);
        }
        return "";
    }

    static String pipeline() throws Exception { // batches: many Binds and Executes before one Sync
        try (Connection one = connect(); PreparedStatement insert = one.prepareStatement("insert into items values (?, ?)")) {
            for (int id = 0; id < 2000; ++id) {
                insert.setInt(1, id);
                insert.setString(2, "name " + id);
                insert.addBatch();
            }
            equal(Arrays.stream(insert.executeBatch()).sum(), 2000);
            for (int id = 3000; id < 3010; ++id) {
                insert.setInt(1, id == 3005 ? 7 : id);
                insert.setString(2, "name " + id);
                insert.addBatch();
            }
            try {
                insert.executeBatch();
                throw new AssertionError("no error");
            } catch (BatchUpdateException error) {
                equal(error.getSQLState(), "23505");
            }
            equal(one(one, "select count(*) from items"), 2000);
            try (PreparedStatement returning = one.prepareStatement("insert into items values (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                for (int id = 5000; id < 5300; ++id) {
                    returning.setInt(1, id);
                    returning.setString(2, "name " + id);
                    returning.addBatch();
                }
                returning.executeBatch();
                try (ResultSet keys = returning.getGeneratedKeys()) {
                    for (int id = 5000; id < 5300; ++id) {
                        keys.next();
                        equal(keys.getInt(1), id);
                    }
                }
            }
            try (Statement several = one.createStatement()) {
                several.execute("select 1; delete from items; select 3");
                equal(several.getMoreResults(), false);
                equal(several.getMoreResults(), true);
                several.getResultSet().next();
                equal(several.getResultSet().getInt(1), 3);
            }
        }
        return "";
    }

    static String cursor() throws Exception { // setFetchSize: a portal, executed in pieces
        try (Connection one = connect()) {
            one.setAutoCommit(false);
            try (PreparedStatement series = one.prepareStatement("select n from generate_series(1, ?) n")) {
                series.setFetchSize(100);
                for (int round = 0; round < 8; ++round) {
                    series.setInt(1, 1000);
                    try (ResultSet rows = series.executeQuery()) {
                        for (int n = 1; n <= (round % 2 == 0 ? 1000 : 250); ++n) { // or only its beginning
                            rows.next();
                            equal(rows.getInt(1), n);
                        }
                    }
                    equal(one(one, "select 7"), 7);
                    one.commit();
                }
            }
        }
        return "";
    }

    static String copy() throws Exception {
        try (Connection one = connect()) {
            CopyManager copies = one.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder rows = new StringBuilder();
            for (int n = 0; n < 20000; ++n) {
                rows.append(n).append("\tname ").append(n).append('\n');
            }
            equal(copies.copyIn("copy items (id, name) from stdin", new StringReader(rows.toString())), 20000L);
            StringWriter out = new StringWriter();
            equal(copies.copyOut("copy (select id, name from items order by id) to stdout", out), 20000L);
            equal(out.toString(), rows.toString());
            ByteArrayOutputStream binary = new ByteArrayOutputStream();
            copies.copyOut("copy (select id, name from items) to stdout (format binary)", binary);
            execute(one, "delete from items");
            copies.copyIn("copy items (id, name) from stdin (format binary)", new ByteArrayInputStream(binary.toByteArray()));
            equal(one(one, "select count(*) from items"), 20000);
            execute(one, "delete from items");
            expect("22P02", () -> copies.copyIn("copy items (id, name) from stdin", new StringReader("1\tone\nx\tbad\n")));
            CopyIn failing = copies.copyIn("copy items (id, name) from stdin");
            byte[] row = "1\tone\n".getBytes(StandardCharsets.UTF_8);
            failing.writeToCopy(row, 0, row.length);
            failing.cancelCopy();
            equal(one(one, "select count(*) from items"), 0);
        }
        return "";
    }

    static String cancel() throws Exception {
        try (Connection one = connect(); Connection other = connect(); Statement sleep = one.createStatement()) {
            Thread thread = new Thread(() -> {
                try {
                    while (one(other, "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(20)%'") == 0) {
                        Thread.sleep(20);
                    }
                    sleep.cancel();
                } catch (SQLException | InterruptedException error) {
                    throw new IllegalStateException(error);
                }
            });
            thread.start();
            expect("57014", () -> sleep.execute("select pg_sleep(20)"));
            thread.join();
            equal(one(one, "select 7"), 7);
            sleep.setQueryTimeout(1); // a timer of the driver that cancels
            expect("57014", () -> sleep.execute("select pg_sleep(20)"));
            sleep.setQueryTimeout(0);
            equal(one(one, "select 8"), 8);
        }
        return "";
    }

    static String large() throws Exception {
        String text = "0123456789abcdef".repeat(LARGE / 16);
        byte[] bytes = new byte[LARGE];
        for (int i = 0; i < LARGE; ++i) {
            bytes[i] = (byte) (i * 31);
        }
        try (Connection one = connect(); PreparedStatement echo = one.prepareStatement("select ?::text, ?::bytea")) {
            for (int round = 0; round < 6; ++round) {
                echo.setString(1, text);
                echo.setBytes(2, bytes);
                try (ResultSet rows = echo.executeQuery()) {
                    rows.next();
                    equal(rows.getString(1), text);
                    equal(rows.getBytes(2), bytes);
                }
            }
        }
        return "";
    }

    static int work(int number, long until) throws Exception {
        String token = "w" + number + "-" + UUID.randomUUID();
        int committed = 0;
        try (Connection one = connect();
             PreparedStatement echo = one.prepareStatement("select ?::text, ?::int");
             PreparedStatement insert = one.prepareStatement("insert into load values (?, ?) returning token, seq");
             PreparedStatement count = one.prepareStatement("select count(*) from load where token = ?");
             PreparedStatement divide = one.prepareStatement("select 1 / (?::int - 3)");
             PreparedStatement series = one.prepareStatement("select ?::text || n from generate_series(1, 50) n")) {
            count.setString(1, token);
            series.setString(1, token);
            for (int round = 1; round == 1 || System.nanoTime() < until; ++round) {
                one.setAutoCommit(true);
                echo.setString(1, token);
                echo.setInt(2, round);
                try (ResultSet rows = echo.executeQuery()) {
                    rows.next();
                    equal(rows.getString(1) + rows.getInt(2), token + round);
                }
                try (ResultSet rows = series.executeQuery()) {
                    for (int n = 1; n <= 50; ++n) {
                        rows.next();
                        equal(rows.getString(1), token + n);
                    }
                    equal(rows.next(), false);
                }
                one.setAutoCommit(false);
                insert.setString(1, token);
                insert.setInt(2, committed);
                try (ResultSet rows = insert.executeQuery()) {
                    rows.next();
                    equal(rows.getString(1) + rows.getInt(2), token + committed);
                }
                try (ResultSet rows = count.executeQuery()) {
                    rows.next();
                    equal(rows.getInt(1), committed + 1);
                }
                if (round % 7 == 0) {
                    divide.setInt(1, 3);
                    expect("22012", () -> divide.executeQuery().close());
                }
                if (round % 7 == 0 || round % 5 == 0) {
                    one.rollback();
                } else {
                    one.commit();
                    ++committed;
                }
            }
        }
        return committed;
    }

    static String load() throws Exception {
        int workers = Integer.parseInt(System.getenv("WORKERS"));
        long until = System.nanoTime() + (long) (Double.parseDouble(System.getenv("SECONDS")) * 1e9);
        ExecutorService threads = Executors.newFixedThreadPool(workers);
        List<Callable<Integer>> work = new ArrayList<>();
        for (int number = 0; number < workers; ++number) {
            int mine = number;
            work.add(() -> work(mine, until));
        }
        int committed = 0;
        try {
            for (Future<Integer> done : threads.invokeAll(work)) {
                committed += done.get();
            }
        } finally {
            threads.shutdown();
        }
        return String.valueOf(committed);
    }

    static void check(String name, Check check) {
        try {
            System.out.println(("ok " + name + " " + check.run()).trim());
        } catch (Exception | AssertionError error) {
            Throwable cause = error.getCause() == null ? error : error.getCause();
            int line = Arrays.stream(cause.getStackTrace()).filter(frame -> frame.getClassName().startsWith("Pgjdbc"))
                .filter(frame -> !frame.getMethodName().matches("equal|expect")).findFirst().map(StackTraceElement::getLineNumber).orElse(0);
            System.out.println("fail " + name + " line " + line + ": " + String.valueOf(cause).replaceAll("\\s+", " "));
        }
    }

    public static void main(String[] arguments) {
        System.out.println("version pgjdbc " + org.postgresql.util.DriverInfo.DRIVER_VERSION + " (Java " + System.getProperty("java.version") + ")");
        check("connect", Pgjdbc::connects);
        check("types", Pgjdbc::types);
        check("prepared", Pgjdbc::prepared);
        check("transactions", Pgjdbc::transactions);
        check("errors", Pgjdbc::errors);
        check("pipeline", Pgjdbc::pipeline);
        check("cursor", Pgjdbc::cursor);
        check("copy", Pgjdbc::copy);
        check("cancel", Pgjdbc::cancel);
        check("large", Pgjdbc::large);
        check("load", Pgjdbc::load);
    }
}
