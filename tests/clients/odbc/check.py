"""MariaDB's ODBC driver through pyodbc: prepared by the server, rows with parameters in bulk, TLS.

What is `connected` while the database sleeps is the driver by itself: pyodbc asks at once for the types that there are.
"""
import concurrent.futures
import contextlib
import ctypes
import decimal
import glob
import hashlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))
import contract
import pyodbc
from contract import check, equal, one, run

# By its path, so that no administrator has to register it.
DRIVER, = glob.glob("/usr/lib/*/odbc/libmaodbc.so")


def settings(**change):
    settings = dict(DRIVER=DRIVER, SERVER=contract.HOST, PORT=contract.PORT, UID=contract.USER, PWD=contract.PASSWORD,
                    DATABASE=contract.DATABASE, OPTION=1 << 26)  # several statements in one text
    return {**settings, **change}


def connect(**change):
    return pyodbc.connect(**settings(**change), autocommit=True)


@contextlib.contextmanager
def connected_by_the_driver_alone():
    """SQLDriverConnect without what pyodbc does behind it. Handles are of an environment (1) and a connection (2)."""
    odbc = ctypes.CDLL("libodbc.so.2")
    environment, handle = ctypes.c_void_p(), ctypes.c_void_p()
    text = "".join(f"{name}={{{value}}};" for name, value in settings().items()).encode()
    version_3, no_prompt = ctypes.c_void_p(3), 0
    steps = [
        lambda: odbc.SQLAllocHandle(1, None, ctypes.byref(environment)),
        lambda: odbc.SQLSetEnvAttr(environment, 200, version_3, 0),
        lambda: odbc.SQLAllocHandle(2, environment, ctypes.byref(handle)),
        lambda: odbc.SQLDriverConnect(handle, None, text, len(text), None, 0, None, no_prompt),
    ]
    # Success, or success with something to say.
    equal([step() in (0, 1) for step in steps], [True] * 4)
    yield
    odbc.SQLDisconnect(handle)
    odbc.SQLFreeHandle(2, handle)
    odbc.SQLFreeHandle(1, environment)


def error_number(act):
    """The MySQL error, which ODBC's own texts hold in brackets."""
    try:
        act()
    except pyodbc.Error as why:
        return int(re.search(r"\((\d{4})\)", why.args[1])[1])
    raise AssertionError("no error came")


def prepared():
    run(connection, "CREATE OR REPLACE TABLE ps_odbc (a INT, b VARCHAR(20))")
    cursor = connection.cursor()
    cursor.executemany("INSERT INTO ps_odbc VALUES (?, ?)", [(n, f"row {n}") for n in range(3)])
    cursor.execute("SELECT a, b FROM ps_odbc WHERE a >= ? ORDER BY a", 1)
    equal([tuple(row) for row in cursor.fetchall()], [(1, "row 1"), (2, "row 2")])
    cursor.close()


def bulk():
    """The rows' values go out as arrays, in one command where the server knows it."""
    run(connection, "CREATE OR REPLACE TABLE bulk_odbc (a INT, b VARCHAR(20))")
    cursor = connection.cursor()
    cursor.fast_executemany = True
    # The server does not tell how long parameters may be; without this pyodbc would make room for the longest.
    cursor.setinputsizes([(pyodbc.SQL_INTEGER, 0, 0), (pyodbc.SQL_VARCHAR, 20, 0)])
    cursor.executemany("INSERT INTO bulk_odbc VALUES (?, ?)", [(n, f"row {n}") for n in range(1000)])
    cursor.close()
    equal(tuple(one(connection, "SELECT COUNT(*), SUM(a), MAX(b) FROM bulk_odbc")),
          (1000, decimal.Decimal(499500), "row 999"))


def transaction():
    run(connection, "CREATE OR REPLACE TABLE trx_odbc (a INT PRIMARY KEY)")
    connection.autocommit = False
    run(connection, "INSERT INTO trx_odbc VALUES (1)")
    connection.rollback()
    run(connection, "INSERT INTO trx_odbc VALUES (2)")
    connection.commit()
    connection.autocommit = True
    equal(one(connection, "SELECT GROUP_CONCAT(a) FROM trx_odbc")[0], "2")


def errors():
    equal(error_number(lambda: run(connection, "SELEC 1")), 1064)
    equal(error_number(lambda: run(connection, "SELECT * FROM no_such_table")), 1146)
    equal(error_number(lambda: run(connection, "INSERT INTO trx_odbc VALUES (?)", 2)), 1062)
    equal(error_number(lambda: connect(PWD="wrong")), 1045)
    equal(error_number(lambda: connect(DATABASE="no_such_db")), 1044)


def blob():
    sent = hashlib.sha512(b"selkie").digest() * (20 * 1024 * 1024 // 64)
    run(connection, "CREATE OR REPLACE TABLE blob_odbc (a LONGBLOB)")
    run(connection, "INSERT INTO blob_odbc VALUES (?)", sent)
    equal(one(connection, "SELECT MD5(a) FROM blob_odbc")[0], hashlib.md5(sent).hexdigest())
    equal(hashlib.md5(one(connection, "SELECT a FROM blob_odbc")[0]).hexdigest(), hashlib.md5(sent).hexdigest())
    run(connection, "DROP TABLE blob_odbc")


def catalog():
    """What office programs ask for: which tables and columns there are."""
    cursor = connection.cursor()
    equal("trx_odbc" in [row.table_name for row in cursor.tables(catalog=contract.DATABASE)], True)
    equal([row.column_name for row in cursor.columns(table="ps_odbc", catalog=contract.DATABASE)], ["a", "b"])
    cursor.close()


def kill_query():
    """SQLCancel of another thread, which is a KILL QUERY by the id that the login told."""
    # Connections of their own: after several statements in one text the driver keeps its lock for the thread that sent them.
    killed, other = connect(), connect()
    cursor = killed.cursor()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sleeps = pool.submit(error_number, lambda: cursor.execute("SELECT SLEEP(60)"))
        while not one(other, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'")[0]:
            time.sleep(0.01)
        cursor.cancel()
        equal(sleeps.result(), 1317)
    cursor.close()
    equal(one(killed, "SELECT 8")[0], 8)
    killed.close()
    other.close()


def over_tls(ca):
    return connect(SSLCA=ca, SSLVERIFY=1, FORCETLS=1)


def tls():
    secure = over_tls(contract.CA)
    equal(one(secure, "SELECT 7")[0], 7)
    secure.close()


with connected_by_the_driver_alone():
    contract.wait_for_go()
connection = connect()
check("wake_by_first_query", lambda: equal(one(connection, "SELECT 41 + 1")[0], 42))
check("types", lambda: contract.types(connection, "odbc"))
check("prepared_statement", prepared)
check("bulk", bulk)
check("transaction", transaction)
check("errors", errors)
check("blob_20mb", blob)
check("multi_results", lambda: contract.multi_results(connection, "odbc"))
check("catalog", catalog)
check("kill_query", kill_query)
if contract.CA:
    check("tls", tls)
    # 2026: CR_SSL_CONNECTION_ERROR.
    check("tls_of_another_ca", lambda: equal(error_number(lambda: over_tls(contract.OTHER_CA)), 2026))
connection.close()
contract.finish()
