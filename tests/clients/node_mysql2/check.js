// mysql2: its own implementation of the protocol for Node; text, prepared, caching_sha2 and TLS.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { Readable } = require('node:stream');
const contract = require('../node/contract.js');
const { check, errorNumber } = contract;
const mysql = require('mysql2/promise');

const options = { ...contract.settings, multipleStatements: true, supportBigNumbers: true, dateStrings: true };
const connect = (extra) => mysql.createConnection({ ...options, ...extra });

async function types(connection) {
  await connection.query(contract.CREATE_TYPES);
  await connection.query(contract.FILL_TYPES);
  for (const way of ['query', 'execute']) {
    const [[row]] = await connection[way](contract.SELECT_TYPES);
    contract.checkTypes(row);
    assert.equal(row.dt, '2024-02-29 23:59:59.123456');
  }
}

async function prepared(connection) {
  await connection.query('CREATE OR REPLACE TABLE ps_mysql2 (a INT, b VARCHAR(20))');
  const statement = await connection.prepare('INSERT INTO ps_mysql2 VALUES (?, ?)');
  for (let n = 0; n < 3; n++) await statement.execute([n, `row ${n}`]);
  await statement.close();
  const [rows] = await connection.execute('SELECT a, b FROM ps_mysql2 WHERE a >= ? ORDER BY a', [1]);
  assert.deepEqual(rows.map((row) => [row.a, row.b]), [[1, 'row 1'], [2, 'row 2']]);
}

async function transaction(connection) {
  await connection.query('CREATE OR REPLACE TABLE trx_mysql2 (a INT PRIMARY KEY)');
  await connection.beginTransaction();
  await connection.query('INSERT INTO trx_mysql2 VALUES (1)');
  await connection.rollback();
  await connection.beginTransaction();
  await connection.query('INSERT INTO trx_mysql2 VALUES (2)');
  await connection.commit();
  const [rows] = await connection.query('SELECT a FROM trx_mysql2');
  assert.deepEqual(rows.map((row) => row.a), [2]);
}

async function errors(connection) {
  assert.equal(await errorNumber(() => connection.query('SELEC 1')), 1064);
  assert.equal(await errorNumber(() => connection.query('SELECT * FROM no_such_table')), 1146);
  assert.equal(await errorNumber(() => connection.execute('INSERT INTO trx_mysql2 VALUES (2)')), 1062);
  assert.equal(await errorNumber(() => connect({ password: 'wrong' })), 1045);
  assert.equal(await errorNumber(() => connect({ database: 'no_such_db' })), 1044);
}

async function blob(connection) {
  const sent = contract.blob();
  await connection.query('CREATE OR REPLACE TABLE blob_mysql2 (a LONGBLOB)');
  await connection.execute('INSERT INTO blob_mysql2 VALUES (?)', [sent]);
  const [[{ sum }]] = await connection.query('SELECT MD5(a) sum FROM blob_mysql2');
  assert.equal(sum, contract.md5(sent));
  for (const way of ['query', 'execute']) {
    const [[{ a }]] = await connection[way]('SELECT a FROM blob_mysql2');
    assert.equal(contract.md5(a), contract.md5(sent));
  }
  await connection.query('DROP TABLE blob_mysql2');
}

async function loadDataLocal(connection) {
  await connection.query('CREATE OR REPLACE TABLE load_mysql2 (a INT, b VARCHAR(20))');
  const lines = function* () { for (let n = 0; n < 50000; n++) yield Buffer.from(`${n}\trow ${n}\n`); };
  await connection.query({
    sql: "LOAD DATA LOCAL INFILE 'a stream' INTO TABLE load_mysql2",
    infileStreamFactory: () => Readable.from(lines()),
  });
  const [[row]] = await connection.query('SELECT COUNT(*) n, SUM(a) s FROM load_mysql2');
  assert.deepEqual([row.n, Number(row.s)], [50000, 1249975000]);
}

async function multiResults(connection) {
  const [results] = await connection.query("SELECT 1 a; SELECT 'two' b; DO 4; SELECT 5 c");
  assert.deepEqual(results.map((each) => Array.isArray(each) ? Object.values(each[0])[0] : null), [1, 'two', null, 5]);
}

async function changeUser() {
  const changed = await connect();
  await changed.changeUser({ ...contract.other, database: options.database });
  const [[row]] = await changed.query("SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1) me");
  assert.equal(row.me, contract.other.user.split('.').pop());
  await changed.end();
}

async function reset(connection) {
  await connection.query('SET @left_over = 1');
  await connection.reset();
  const [[row]] = await connection.query('SELECT @left_over a');
  assert.equal(row.a, null);
}

async function tls() {
  const secure = await connect({ ssl: { ca: fs.readFileSync(process.env.CA), verifyIdentity: false } });
  const [[row]] = await secure.query('SELECT 7 a');
  assert.equal(row.a, 7);
  await secure.end();
}

(async () => {
  const connection = await connect();
  await contract.waitForGo();
  await check('wake_by_first_query', async () => assert.equal((await connection.query('SELECT 41 + 1 a'))[0][0].a, 42));
  await check('types', () => types(connection));
  await check('prepared_statement', () => prepared(connection));
  await check('transaction', () => transaction(connection));
  await check('errors', () => errors(connection));
  await check('blob_20mb', () => blob(connection));
  await check('load_data_local', () => loadDataLocal(connection));
  await check('multi_results', () => multiResults(connection));
  await check('change_user', changeUser);
  await check('reset_connection', () => reset(connection));
  await check('ping', () => connection.ping());
  if (process.env.CA) await check('tls', tls);
  await connection.end();
})();
