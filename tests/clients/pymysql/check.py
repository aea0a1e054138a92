"""PyMySQL: pure Python, native and caching_sha2, plain and inside TLS."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))
import contract
import pymysql
from contract import check, equal
from pymysql.constants import CLIENT, COMMAND


def connect(**options):
    settings = dict(host=contract.HOST, port=contract.PORT, user=contract.USER, password=contract.PASSWORD,
                    database=contract.DATABASE, charset="utf8mb4", local_infile=True, ssl_disabled=True,
                    client_flag=CLIENT.MULTI_STATEMENTS, max_allowed_packet=64 * 1024 * 1024)
    return pymysql.connect(**{**settings, **options})


def reset_connection():
    contract.run(connection, "SET @left_over = 1")
    connection._execute_command(0x1F, b"")  # COM_RESET_CONNECTION; PyMySQL has no method of that name
    connection._read_ok_packet()
    equal(contract.one(connection, "SELECT @left_over")[0], None)
    connection.select_db(contract.DATABASE)


def tls():
    secure = connect(ssl_disabled=False, ssl_ca=contract.CA, ssl_verify_cert=True, ssl_verify_identity=False)
    equal(secure._secure, True)
    equal(contract.one(secure, "SELECT 7")[0], 7)
    secure.close()


connection = connect()
contract.wait_for_go()
check("wake_by_first_query", lambda: equal(contract.one(connection, "SELECT 41 + 1")[0], 42))
check("types", lambda: contract.types(connection, "pymysql"))
check("transaction", lambda: contract.transaction(connection, "pymysql"))
check("errors", lambda: contract.errors(connection, "pymysql"))
check("wrong_password", lambda: equal(contract.error_number(lambda: connect(password="wrong")), 1045))
check("unknown_database", lambda: equal(contract.error_number(lambda: connect(database="no_such_db")), 1044))
check("blob_20mb", lambda: contract.blob(connection, "pymysql"))
check("load_data_local", lambda: contract.load_data_local(connection, "pymysql"))
check("multi_results", lambda: contract.multi_results(connection, "pymysql"))
check("reset_connection", reset_connection)
check("ping", lambda: connection.ping(reconnect=False))
if contract.CA:
    check("tls", tls)
connection.close()
contract.finish()
