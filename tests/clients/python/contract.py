"""What every Python driver is held to: the checks that the DB-API lets all of them share.

A driver's own program gives `connect(**options)` and what its driver can do beyond the DB-API; this file runs the list
and prints one line per check, `ok NAME` or `not ok NAME: why`. Whoever starts it waits for the line `connected`, looks
whether the database still sleeps, and answers with a line: only then the first query goes out.
"""
import datetime
import decimal
import hashlib
import os
import sys
import tempfile

HOST = os.environ["HOST"]
PORT = int(os.environ["PORT"])
USER = os.environ["USER"]
PASSWORD = os.environ["PASSWORD"]
DATABASE = os.environ["DATABASE"]
OTHER_USER = os.environ["OTHER_USER"]
OTHER_PASSWORD = os.environ["OTHER_PASSWORD"]
# The certificate authority to trust; not set where the server has no TLS.
CA = os.environ.get("CA")
# One that signed nothing.
OTHER_CA = os.environ.get("OTHER_CA")

failed = False


def check(name, act):
    """Runs one check and prints its line."""
    global failed
    try:
        act()
        print(f"ok {name}", flush=True)
    except Exception as why:  # the line is the report, whatever went wrong
        failed = True
        print(f"not ok {name}: {type(why).__name__}: {why}".replace("\n", " "), flush=True)


def equal(seen, expected):
    assert seen == expected, f"{seen!r} where {expected!r} was expected"


def wait_for_go():
    """Says that the login is through and waits until the database was looked at."""
    print("connected", flush=True)
    sys.stdin.readline()


def one(connection, sql, *args):
    cursor = connection.cursor()
    try:
        cursor.execute(sql, *args)
        return cursor.fetchone()
    finally:
        cursor.close()


def run(connection, sql, *args):
    cursor = connection.cursor()
    try:
        cursor.execute(sql, *args)
    finally:
        cursor.close()


def error_number(act):
    """The MySQL error that `act` ends in."""
    try:
        act()
    except Exception as why:
        return getattr(why, "errno", None) or why.args[0]
    raise AssertionError("no error came")


TYPES = """CREATE OR REPLACE TABLE types_{0} (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), da DATE,
  n INT, b BLOB, s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10), f DOUBLE)"""


def types(connection, table):
    run(connection, TYPES.format(table))
    run(connection, f"INSERT INTO types_{table} VALUES (-2147483648, 18446744073709551615, -12345678901234.567890, "
                    "'2024-02-29 23:59:59.123456', '1000-01-01', NULL, x'00ff0a0d5c27', 'sel\u00adkie \U0001f9ad', "
                    "'{\"a\": [1, null]}', b'1000000001', 0.1)")
    row = one(connection, f"SELECT i, u, d, dt, da, n, b, s, j, bi + 0, f FROM types_{table}")
    text = row[8].decode() if isinstance(row[8], (bytes, bytearray)) else row[8]
    equal(tuple(row[:8]) + (text,) + tuple(row[9:]),
          (-2147483648, 18446744073709551615, decimal.Decimal("-12345678901234.567890"),
           datetime.datetime(2024, 2, 29, 23, 59, 59, 123456), datetime.date(1000, 1, 1), None,
           b"\x00\xff\x0a\x0d\x5c\x27", "sel\u00adkie \U0001f9ad", '{"a": [1, null]}', 513, 0.1))


def transaction(connection, table):
    run(connection, f"CREATE OR REPLACE TABLE trx_{table} (a INT PRIMARY KEY) ENGINE=InnoDB")
    connection.begin() if hasattr(connection, "begin") else connection.start_transaction()
    run(connection, f"INSERT INTO trx_{table} VALUES (1)")
    connection.rollback()
    equal(one(connection, f"SELECT COUNT(*) FROM trx_{table}")[0], 0)
    connection.rollback()
    run(connection, f"INSERT INTO trx_{table} VALUES (2)")
    connection.commit()
    equal(one(connection, f"SELECT SUM(a) FROM trx_{table}")[0], 2)
    connection.commit()


def errors(connection, table):
    equal(error_number(lambda: run(connection, "SELEC 1")), 1064)
    equal(error_number(lambda: run(connection, "SELECT * FROM no_such_table")), 1146)
    run(connection, f"CREATE OR REPLACE TABLE dup_{table} (a INT PRIMARY KEY)")
    run(connection, f"INSERT INTO dup_{table} VALUES (1)")
    equal(error_number(lambda: run(connection, f"INSERT INTO dup_{table} VALUES (1)")), 1062)


def blob(connection, table):
    sent = hashlib.sha512(b"selkie").digest() * (20 * 1024 * 1024 // 64)
    run(connection, f"CREATE OR REPLACE TABLE blob_{table} (a LONGBLOB)")
    run(connection, f"INSERT INTO blob_{table} VALUES (%s)", (sent,))
    equal(one(connection, f"SELECT MD5(a) FROM blob_{table}")[0], hashlib.md5(sent).hexdigest())
    seen = one(connection, f"SELECT a FROM blob_{table}")[0]
    equal((len(seen), hashlib.md5(seen).hexdigest()), (len(sent), hashlib.md5(sent).hexdigest()))
    run(connection, f"DROP TABLE blob_{table}")


def load_data_local(connection, table):
    run(connection, f"CREATE OR REPLACE TABLE load_{table} (a INT, b VARCHAR(20))")
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(f"{n}\trow {n}\n" for n in range(50_000))
        file.flush()
        run(connection, f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE load_{table}")
    connection.commit()
    equal(tuple(one(connection, f"SELECT COUNT(*), SUM(a), MAX(b) FROM load_{table}")), (50_000, 1249975000, "row 9999"))


def multi_results(connection, table):
    """Through `nextset`, which PyMySQL and mysqlclient have."""
    cursor = connection.cursor()
    cursor.execute("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5")
    seen = []
    while True:
        seen.append([tuple(row) for row in cursor.fetchall()] if cursor.description else None)
        if not cursor.nextset():
            break
    cursor.close()
    equal(seen, [[(1,)], [("two", 3)], None, [(5,)]])


def finish():
    sys.exit(1 if failed else 0)
