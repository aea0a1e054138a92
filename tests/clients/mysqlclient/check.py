"""mysqlclient: Python over the C library of MariaDB."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))
import contract
import MySQLdb
from contract import check, equal


def connect(**options):
    settings = dict(host=contract.HOST, port=contract.PORT, user=contract.USER, password=contract.PASSWORD,
                    database=contract.DATABASE, charset="utf8mb4", local_infile=1)
    return MySQLdb.connect(**{**settings, **options})


def change_user():
    changed = connect()
    changed.change_user(contract.OTHER_USER, contract.OTHER_PASSWORD, contract.DATABASE)
    bare = contract.OTHER_USER.rpartition(".")[2]
    equal(contract.one(changed, "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")[0], bare)
    changed.close()


def tls():
    secure = connect(ssl={"ca": contract.CA})
    equal(contract.one(secure, "SELECT 7")[0], 7)
    assert secure.get_ssl_cipher() if hasattr(secure, "get_ssl_cipher") else True
    secure.close()


connection = connect()
contract.wait_for_go()
check("wake_by_first_query", lambda: equal(contract.one(connection, "SELECT 41 + 1")[0], 42))
check("types", lambda: contract.types(connection, "mysqlclient"))
check("transaction", lambda: contract.transaction(connection, "mysqlclient"))
check("errors", lambda: contract.errors(connection, "mysqlclient"))
check("wrong_password", lambda: equal(contract.error_number(lambda: connect(password="wrong")), 1045))
check("unknown_database", lambda: equal(contract.error_number(lambda: connect(database="no_such_db")), 1044))
check("blob_20mb", lambda: contract.blob(connection, "mysqlclient"))
check("load_data_local", lambda: contract.load_data_local(connection, "mysqlclient"))
check("multi_results", lambda: contract.multi_results(connection, "mysqlclient"))
check("change_user", change_user)
check("ping", lambda: connection.ping())
if contract.CA:
    check("tls", tls)
connection.close()
contract.finish()
