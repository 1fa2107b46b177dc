// The console by pgjdbc at its defaults: extended protocol, prepared under a name at the fifth execution.
// Where to connect comes from PG* variables. Prints a line for each check: `ok NAME`, or `fail NAME reason`.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

final class Console {
    private static final String[] TABLES = {"POOLS", "CLIENTS", "SERVERS", "DATABASES", "STATS", "LISTS", "CONFIG", "USERS"};
    private static final String[] COMMANDS = {"RELOAD", "PAUSE bench", "RESUME bench"};

    private Console() {}

    public static void main(String[] arguments) throws SQLException {
        Properties login = new Properties();
        login.setProperty("user", System.getenv("PGUSER"));
        login.setProperty("password", System.getenv("PGPASSWORD"));
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection connection = DriverManager.getConnection(url, login)) {
            System.out.println("ok connect");
            for (String table : TABLES) {
                // Seven times: the last ones by a named statement.
                try (PreparedStatement statement = connection.prepareStatement("SHOW " + table)) {
                    int count = 0;
                    for (int i = 0; i < 7; ++i) {
                        try (ResultSet rows = statement.executeQuery()) {
                            for (count = 0; rows.next(); ++count) {
                                for (int column = 1; column <= rows.getMetaData().getColumnCount(); ++column) {
                                    rows.getObject(column);
                                }
                            }
                        }
                    }
                    System.out.println(count > 0 ? "ok " + table : "fail " + table + " no rows");
                } catch (SQLException problem) {
                    System.out.println("fail " + table + " " + problem.getMessage());
                }
            }
            for (String command : COMMANDS) {
                try (Statement statement = connection.createStatement()) {
                    statement.execute(command);
                    System.out.println("ok " + command);
                } catch (SQLException problem) {
                    System.out.println("fail " + command + " " + problem.getMessage());
                }
            }
            try (Statement statement = connection.createStatement()) {
                statement.execute("PAUSE nowhere");
                System.out.println("fail error: there was none");
            } catch (SQLException problem) {
                System.out.println("ok error");
            }
        }
    }
}
