"""mysql-connector-python, its pure Python form: names caching_sha2_password where the server offers it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))
import contract
import mysql.connector
from contract import check, equal


def connect(**options):
    settings = dict(host=contract.HOST, port=contract.PORT, user=contract.USER, password=contract.PASSWORD,
                    database=contract.DATABASE, charset="utf8mb4", collation="utf8mb4_general_ci", use_pure=True,
                    allow_local_infile=True, ssl_disabled=True)
    return mysql.connector.connect(**{**settings, **options})


def prepared_statement():
    contract.run(connection, "CREATE OR REPLACE TABLE ps_connector (a INT, b VARCHAR(20), c BLOB)")
    cursor = connection.cursor(prepared=True)
    for n in range(3):
        cursor.execute("INSERT INTO ps_connector VALUES (?, ?, ?)", (n, f"row {n}", None))
    cursor.execute("SELECT a, b, c FROM ps_connector WHERE a >= ? ORDER BY a", (1,))
    equal([tuple(row) for row in cursor.fetchall()], [(1, "row 1", None), (2, "row 2", None)])
    cursor.close()
    connection.commit()


def multi_results():
    cursor = connection.cursor()
    cursor.execute("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5")
    seen = []
    while True:
        seen.append([tuple(row) for row in cursor.fetchall()] if cursor.with_rows else None)
        if not cursor.nextset():
            break
    cursor.close()
    equal(seen, [[(1,)], [("two", 3)], None, [(5,)]])


def reset_connection():
    contract.run(connection, "SET @left_over = 1")
    connection.cmd_reset_connection()
    equal(contract.one(connection, "SELECT @left_over")[0], None)


def change_user():
    changed = connect()
    changed.cmd_change_user(contract.OTHER_USER, contract.OTHER_PASSWORD, contract.DATABASE)
    bare = contract.OTHER_USER.rpartition(".")[2]
    equal(contract.one(changed, "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")[0], bare)
    changed.close()


def tls():
    secure = connect(ssl_disabled=False, ssl_ca=contract.CA, ssl_verify_cert=True)
    equal(contract.one(secure, "SELECT 7")[0], 7)
    secure.close()


connection = connect()
contract.wait_for_go()
check("wake_by_first_query", lambda: equal(contract.one(connection, "SELECT 41 + 1")[0], 42))
check("types", lambda: contract.types(connection, "connector"))
check("prepared_statement", prepared_statement)
check("transaction", lambda: (connection.commit(), contract.transaction(connection, "connector")))
check("errors", lambda: contract.errors(connection, "connector"))
check("wrong_password", lambda: equal(contract.error_number(lambda: connect(password="wrong")), 1045))
check("unknown_database", lambda: equal(contract.error_number(lambda: connect(database="no_such_db")), 1044))
check("blob_20mb", lambda: contract.blob(connection, "connector"))
check("load_data_local", lambda: contract.load_data_local(connection, "connector"))
check("multi_results", multi_results)
check("reset_connection", reset_connection)
check("change_user", change_user)
check("ping", lambda: connection.ping(reconnect=False))
if contract.CA:
    check("tls", tls)
connection.close()
contract.finish()
