// MariaDB Connector/J: text and prepared by the server, batches in bulk, results read one by one, TLS.
//
// One line per check goes out, `ok NAME` or `not ok NAME: why`; the line `connected` is answered by whoever looked whether
// the database still sleeps, and only then the first query goes out.

import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import javax.net.ssl.SSLException;

public class Check {
    interface Act {
        void run() throws Exception;
    }

    static boolean failed = false;

    static void check(String name, Act act) {
        try {
            act.run();
            System.out.println("ok " + name);
        } catch (Exception why) {
            failed = true;
            System.out.println("not ok " + name + ": " + String.valueOf(why).replace('\n', ' '));
        }
    }

    static void equal(Object seen, Object expected) {
        if (!seen.equals(expected)) {
            throw new IllegalStateException(seen + " where " + expected + " was expected");
        }
    }

    static String given(String name) {
        return System.getenv(name);
    }

    static Connection connect(Map<String, String> change) throws SQLException {
        Properties settings = new Properties();
        settings.put("user", given("USER"));
        settings.put("password", given("PASSWORD"));
        settings.put("allowMultiQueries", "true");
        settings.put("allowLocalInfile", "true");
        String database = change.getOrDefault("database", given("DATABASE"));
        change.forEach((name, value) -> {
            if (!name.equals("database")) settings.put(name, value);
        });
        return DriverManager.getConnection(
            "jdbc:mariadb://" + given("HOST") + ":" + given("PORT") + "/" + database, settings);
    }

    /** Statements that the server prepares; by itself the driver puts them together. */
    static final Map<String, String> PREPARED = Map.of("useServerPrepStmts", "true");

    static void run(Connection connection, String... statements) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String sql : statements) statement.execute(sql);
        }
    }

    /** The columns of the first row, as text. */
    static List<String> row(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) statement.setObject(n + 1, values[n]);
            ResultSet result = statement.executeQuery();
            result.next();
            List<String> row = new ArrayList<>();
            for (int n = 1; n <= result.getMetaData().getColumnCount(); n++) row.add(result.getString(n));
            return row;
        }
    }

    /** The MySQL error that `act` ends in. */
    static int errorNumber(Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException why) {
            return why.getErrorCode();
        }
        throw new IllegalStateException("no error came");
    }

    static void types(Connection connection) throws Exception {
        run(connection,
            "CREATE OR REPLACE TABLE types_java (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), n INT, b BLOB,"
            + " s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10), f DOUBLE)",
            "INSERT INTO types_java VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,"
            + " '2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'selkie \ud83e\uddad', '{\"a\": [1, null]}',"
            + " b'1000000001', 0.1)");
        try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM types_java WHERE ? = 1")) {
            statement.setInt(1, 1);
            ResultSet row = statement.executeQuery();
            row.next();
            equal(row.getInt("i"), Integer.MIN_VALUE);
            equal(row.getBigDecimal("u"), new BigDecimal("18446744073709551615"));
            equal(row.getBigDecimal("d"), new BigDecimal("-12345678901234.567890"));
            equal(row.getTimestamp("dt"), Timestamp.valueOf("2024-02-29 23:59:59.123456"));
            equal(row.getObject("n") == null && row.wasNull(), true);
            equal(Arrays.equals(row.getBytes("b"), new byte[] {0, (byte) 0xff, '\n', '\r', '\\', '\''}), true);
            equal(row.getString("s"), "selkie \ud83e\uddad");
            equal(row.getString("j"), "{\"a\": [1, null]}");
            equal(Arrays.equals(row.getBytes("bi"), new byte[] {2, 1}), true);
            equal(row.getDouble("f"), 0.1);
        }
    }

    static void prepared(Connection connection) throws Exception {
        run(connection, "CREATE OR REPLACE TABLE ps_java (a INT, b VARCHAR(20))");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO ps_java VALUES (?, ?)")) {
            for (int n = 0; n < 3; n++) {
                insert.setInt(1, n);
                insert.setString(2, "row " + n);
                insert.execute();
            }
        }
        equal(row(connection, "SELECT GROUP_CONCAT(a, b ORDER BY a) FROM ps_java WHERE a >= ?", 1),
            List.of("1row 1,2row 2"));
    }

    /** A thousand rows at once; the driver sends them in one packet, by MariaDB's own command. */
    static void bulk(Connection connection) throws Exception {
        run(connection, "CREATE OR REPLACE TABLE bulk_java (a INT, b VARCHAR(20))");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO bulk_java VALUES (?, ?)")) {
            for (int n = 0; n < 1000; n++) {
                insert.setInt(1, n);
                insert.setString(2, n % 7 == 0 ? null : "row " + n);
                insert.addBatch();
            }
            equal(insert.executeBatch().length, 1000);
        }
        equal(row(connection, "SELECT COUNT(*), SUM(a), COUNT(b) FROM bulk_java"), List.of("1000", "499500", "857"));
    }

    static void transaction(Connection connection) throws Exception {
        run(connection, "CREATE OR REPLACE TABLE trx_java (a INT PRIMARY KEY)");
        connection.setAutoCommit(false);
        run(connection, "INSERT INTO trx_java VALUES (1)");
        connection.rollback();
        run(connection, "INSERT INTO trx_java VALUES (2)");
        connection.commit();
        connection.setAutoCommit(true);
        equal(row(connection, "SELECT GROUP_CONCAT(a) FROM trx_java"), List.of("2"));
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        equal(connection.getTransactionIsolation(), Connection.TRANSACTION_SERIALIZABLE);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
    }

    static void errors(Connection connection, Connection binary) throws Exception {
        equal(errorNumber(() -> run(connection, "SELEC 1")), 1064);
        equal(errorNumber(() -> run(connection, "SELECT * FROM no_such_table")), 1146);
        for (Connection each : List.of(connection, binary)) {
            equal(errorNumber(() -> row(each, "INSERT INTO trx_java VALUES (?)", 2)), 1062);
        }
        equal(errorNumber(() -> connect(Map.of("password", "wrong"))), 1045);
        equal(errorNumber(() -> connect(Map.of("database", "no_such_db"))), 1044);
    }

    static void blob(Connection connection) throws Exception {
        byte[] sent = new byte[20 << 20];
        new java.util.Random(1).nextBytes(sent);
        String sum = md5(sent);
        run(connection, "CREATE OR REPLACE TABLE blob_java (a LONGBLOB)");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO blob_java VALUES (?)")) {
            insert.setBinaryStream(1, new java.io.ByteArrayInputStream(sent));
            insert.execute();
        }
        equal(row(connection, "SELECT MD5(a) FROM blob_java"), List.of(sum));
        try (PreparedStatement select = connection.prepareStatement("SELECT a FROM blob_java")) {
            ResultSet result = select.executeQuery();
            result.next();
            equal(md5(result.getBytes(1)), sum);
        }
        run(connection, "DROP TABLE blob_java");
    }

    static String md5(byte[] bytes) throws Exception {
        return java.util.HexFormat.of().formatHex(MessageDigest.getInstance("MD5").digest(bytes));
    }

    static void loadDataLocal(Connection connection) throws Exception {
        Path file = Files.createTempFile("selkie", ".tsv");
        try {
            StringBuilder rows = new StringBuilder();
            for (int n = 0; n < 50_000; n++) rows.append(n).append("\trow ").append(n).append('\n');
            Files.writeString(file, rows);
            run(connection, "CREATE OR REPLACE TABLE load_java (a INT, b VARCHAR(20))",
                "LOAD DATA LOCAL INFILE '" + file + "' INTO TABLE load_java");
        } finally {
            Files.delete(file);
        }
        equal(row(connection, "SELECT COUNT(*), SUM(a), MAX(b) FROM load_java"), List.of("50000", "1249975000", "row 9999"));
    }

    static void multiResults(Connection connection) throws Exception {
        List<String> seen = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            boolean rows = statement.execute("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5");
            while (rows || statement.getUpdateCount() != -1) {
                ResultSet result = statement.getResultSet();
                if (rows) result.next();
                seen.add(rows ? result.getString(1) : "none");
                rows = statement.getMoreResults();
            }
        }
        equal(seen, List.of("1", "two", "none", "5"));
    }

    /** Rows that are read as they are asked for, as for large results. */
    static void unbuffered(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(10);
            ResultSet rows = statement.executeQuery("SELECT seq FROM seq_1_to_100000");
            long sum = 0;
            while (rows.next()) sum += rows.getLong(1);
            equal(sum, 5_000_050_000L);
        }
    }

    /** The driver's own cancel, which is a KILL QUERY by the id that the login told; the connection goes on. */
    static void killQuery(Connection connection) throws Exception {
        try (Connection other = connect(Map.of()); Statement sleeping = connection.createStatement()) {
            Thread killer = new Thread(() -> {
                try {
                    while (row(other, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'").equals(List.of("0"))) {
                        Thread.sleep(10);
                    }
                    sleeping.cancel();
                } catch (Exception why) {
                    throw new IllegalStateException(why);
                }
            });
            killer.start();
            equal(errorNumber(() -> sleeping.executeQuery("SELECT SLEEP(60)")), 1317);
            killer.join();
        }
        equal(row(connection, "SELECT 8"), List.of("8"));
    }

    static Connection secure(String ca) throws SQLException {
        return connect(Map.of("useSsl", "true", "serverSslCert", ca));
    }

    static void refusesTheCertificate() throws Exception {
        try (Connection secure = secure(given("OTHER_CA"))) {
            throw new IllegalStateException("it logged in");
        } catch (SQLException why) {
            Throwable cause = why;
            while (cause != null && !(cause instanceof SSLException)) cause = cause.getCause();
            if (cause == null) throw why;
        }
    }

    public static void main(String[] none) throws Exception {
        Connection connection = connect(Map.of());
        System.out.println("connected");
        System.in.read();
        check("wake_by_first_query", () -> equal(row(connection, "SELECT 41 + 1"), List.of("42")));
        Connection binary = connect(PREPARED);
        check("types", () -> {
            types(connection);
            types(binary);
        });
        check("prepared_statement", () -> {
            prepared(connection);
            prepared(binary);
        });
        check("bulk", () -> {
            bulk(connection);
            bulk(binary);
        });
        check("transaction", () -> transaction(connection));
        check("errors", () -> errors(connection, binary));
        check("blob_20mb", () -> {
            blob(connection);
            blob(binary);
        });
        check("load_data_local", () -> loadDataLocal(connection));
        check("multi_results", () -> multiResults(connection));
        check("unbuffered", () -> unbuffered(connection));
        check("kill_query", () -> killQuery(connection));
        check("valid", () -> equal(connection.isValid(10), true));
        if (given("CA") != null) {
            check("tls", () -> {
                try (Connection secure = secure(given("CA"))) {
                    equal(row(secure, "SELECT 7"), List.of("7"));
                }
            });
            check("tls_of_another_ca", Check::refusesTheCertificate);
        }
        binary.close();
        connection.close();
        System.exit(failed ? 1 : 0);
    }
}
