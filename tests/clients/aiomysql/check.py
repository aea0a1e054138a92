"""aiomysql: PyMySQL's protocol on asyncio, with connections used at the same time."""
import asyncio
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))
import aiomysql
import contract
from contract import equal
from pymysql.constants import CLIENT


async def connect(**options):
    settings = dict(host=contract.HOST, port=contract.PORT, user=contract.USER, password=contract.PASSWORD,
                    db=contract.DATABASE, charset="utf8mb4", local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS)
    return await aiomysql.connect(**{**settings, **options})


async def rows(connection, sql, args=None):
    async with connection.cursor() as cursor:
        await cursor.execute(sql, args)
        return list(await cursor.fetchall())


async def check(name, act):
    try:
        await act
        contract.check(name, lambda: None)
    except Exception as why:
        error = why

        def fail():
            raise error
        contract.check(name, fail)


async def error_number(act):
    try:
        await act
    except Exception as why:
        return why.args[0]
    raise AssertionError("no error came")


async def wake(connection):
    equal(await rows(connection, "SELECT 41 + 1"), [(42,)])


async def transaction(connection):
    await rows(connection, "CREATE OR REPLACE TABLE trx_aiomysql (a INT PRIMARY KEY)")
    await connection.begin()
    await rows(connection, "INSERT INTO trx_aiomysql VALUES (1)")
    await connection.rollback()
    equal(await rows(connection, "SELECT COUNT(*) FROM trx_aiomysql"), [(0,)])
    await connection.begin()
    await rows(connection, "INSERT INTO trx_aiomysql VALUES (2)")
    await connection.commit()
    equal(await rows(connection, "SELECT a FROM trx_aiomysql"), [(2,)])


async def errors(connection):
    equal(await error_number(rows(connection, "SELEC 1")), 1064)
    equal(await error_number(rows(connection, "SELECT * FROM no_such_table")), 1146)
    equal(await error_number(rows(connection, "INSERT INTO trx_aiomysql VALUES (2)")), 1062)
    equal(await error_number(connect(password="wrong")), 1045)
    equal(await error_number(connect(db="no_such_db")), 1044)


async def many_at_once():
    async def answer(n):
        connection = await connect()
        seen = await rows(connection, "SELECT %s * 2, SLEEP(0.01)", (n,))
        connection.close()
        return seen[0][0]
    equal(await asyncio.gather(*(answer(n) for n in range(20))), [n * 2 for n in range(20)])


async def blob(connection):
    sent = hashlib.sha512(b"selkie").digest() * (20 * 1024 * 1024 // 64)
    await rows(connection, "CREATE OR REPLACE TABLE blob_aiomysql (a LONGBLOB)")
    # As hex digits: aiomysql 0.3.2 cannot escape bytes with the PyMySQL of today (a fault on the client's side alone).
    await rows(connection, "INSERT INTO blob_aiomysql VALUES (UNHEX(%s))", (sent.hex(),))
    equal(await rows(connection, "SELECT MD5(a) FROM blob_aiomysql"), [(hashlib.md5(sent).hexdigest(),)])
    seen = (await rows(connection, "SELECT a FROM blob_aiomysql"))[0][0]
    equal(hashlib.md5(seen).hexdigest(), hashlib.md5(sent).hexdigest())
    await rows(connection, "DROP TABLE blob_aiomysql")


async def multi_results(connection):
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT 1; SELECT 'two', 3; SELECT 5")
        seen = [await cursor.fetchall()]
        while await cursor.nextset():
            seen.append(await cursor.fetchall())
    equal([list(each) for each in seen], [[(1,)], [("two", 3)], [(5,)]])


async def main():
    connection = await connect()
    await asyncio.to_thread(contract.wait_for_go)
    await check("wake_by_first_query", wake(connection))
    await check("transaction", transaction(connection))
    await check("errors", errors(connection))
    await check("many_at_once", many_at_once())
    await check("blob_20mb", blob(connection))
    await check("multi_results", multi_results(connection))
    await check("ping", connection.ping(reconnect=False))
    connection.close()


asyncio.run(main())
contract.finish()
