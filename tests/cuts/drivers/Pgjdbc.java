// pgjdbc at its defaults: a statement that becomes a named one, a batch, rows in pieces, COPY, an error, a savepoint.
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class Pgjdbc {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/app?user=app&sslmode=disable";
        try (Connection client = DriverManager.getConnection(url)) {
            try (PreparedStatement statement = client.prepareStatement("select a, b from cut where a = ?")) {
                for (int n = 0; n < 7; n++) {
                    statement.setInt(1, n);
                    statement.executeQuery().close();
                }
            }
            client.setAutoCommit(false);
            try (PreparedStatement statement = client.prepareStatement("insert into cut values (?, ?)")) {
                for (int n = 0; n < 4; n++) {
                    statement.setInt(1, 7001 + n);
                    statement.setString(2, "pgjdbc");
                    statement.addBatch();
                }
                statement.executeBatch();
            }
            Savepoint before = client.setSavepoint();
            try (Statement statement = client.createStatement()) {
                statement.executeQuery("select 1/0");
            } catch (SQLException expected) {
                client.rollback(before);
            }
            try (Statement statement = client.createStatement()) {
                statement.setFetchSize(10);
                ResultSet rows = statement.executeQuery("select a from cut where a < 35");
                while (rows.next()) rows.getInt(1);
            }
            client.commit();
            client.setAutoCommit(true);
            CopyManager copy = client.unwrap(PGConnection.class).getCopyAPI();
            copy.copyIn("copy cut from stdin", new StringReader("7101\tcopied\n7102\tcopied\n"));
            copy.copyOut("copy (select a from cut where a < 9) to stdout", new StringWriter());
            client.createStatement().executeUpdate("delete from cut where a > 1000");
        }
    }
}
