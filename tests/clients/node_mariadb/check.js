// mariadb: MariaDB's own driver for Node; pipelines, bulk execute, session tracking, TLS.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const contract = require('../node/contract.js');
const { check, errorNumber } = contract;
const mariadb = require('mariadb');

const options = { ...contract.settings, multipleStatements: true, permitLocalInfile: true, dateStrings: true };
const connect = (extra) => mariadb.createConnection({ ...options, ...extra });

async function types(connection) {
  await connection.query(contract.CREATE_TYPES);
  await connection.query(contract.FILL_TYPES);
  for (const way of ['query', 'execute']) {
    const [row] = await connection[way](contract.SELECT_TYPES);
    contract.checkTypes(row);
    assert.equal(row.dt, '2024-02-29 23:59:59.123456');
  }
}

async function prepared(connection) {
  await connection.query('CREATE OR REPLACE TABLE ps_mariadb (a INT, b VARCHAR(20))');
  const statement = await connection.prepare('INSERT INTO ps_mariadb VALUES (?, ?)');
  for (let n = 0; n < 3; n++) await statement.execute([n, `row ${n}`]);
  statement.close();
  const rows = await connection.execute('SELECT a, b FROM ps_mariadb WHERE a >= ? ORDER BY a', [1]);
  assert.deepEqual(rows.map((row) => [row.a, row.b]), [[1, 'row 1'], [2, 'row 2']]);
}

async function bulk(connection) {
  await connection.query('CREATE OR REPLACE TABLE bulk_mariadb (a INT PRIMARY KEY, b VARCHAR(20))');
  const rows = Array.from({ length: 5000 }, (_, n) => [n, n % 7 ? `row ${n}` : null]);
  await connection.batch('INSERT INTO bulk_mariadb VALUES (?, ?)', rows);
  const [row] = await connection.query('SELECT COUNT(*) n, COUNT(b) b, SUM(a) s FROM bulk_mariadb');
  assert.deepEqual([Number(row.n), Number(row.b), Number(row.s)], [5000, 4285, 12497500]);
}

async function pipelined(connection) {
  const seen = await Promise.all(Array.from({ length: 50 }, (_, n) => connection.query('SELECT ? + 1 a', [n])));
  assert.deepEqual(seen.map(([row]) => Number(row.a)), Array.from({ length: 50 }, (_, n) => n + 1));
}

async function transaction(connection) {
  await connection.query('CREATE OR REPLACE TABLE trx_mariadb (a INT PRIMARY KEY)');
  await connection.beginTransaction();
  await connection.query('INSERT INTO trx_mariadb VALUES (1)');
  await connection.rollback();
  await connection.beginTransaction();
  await connection.query('INSERT INTO trx_mariadb VALUES (2)');
  await connection.commit();
  assert.deepEqual((await connection.query('SELECT a FROM trx_mariadb')).map((row) => row.a), [2]);
}

async function errors(connection) {
  assert.equal(await errorNumber(() => connection.query('SELEC 1')), 1064);
  assert.equal(await errorNumber(() => connection.query('SELECT * FROM no_such_table')), 1146);
  assert.equal(await errorNumber(() => connection.execute('INSERT INTO trx_mariadb VALUES (2)')), 1062);
  assert.equal(await errorNumber(() => connect({ password: 'wrong' })), 1045);
  assert.equal(await errorNumber(() => connect({ database: 'no_such_db' })), 1044);
}

async function blob(connection) {
  const sent = contract.blob();
  await connection.query('CREATE OR REPLACE TABLE blob_mariadb (a LONGBLOB)');
  await connection.execute('INSERT INTO blob_mariadb VALUES (?)', [sent]);
  assert.equal((await connection.query('SELECT MD5(a) sum FROM blob_mariadb'))[0].sum, contract.md5(sent));
  for (const way of ['query', 'execute']) {
    const [{ a }] = await connection[way]('SELECT a FROM blob_mariadb');
    assert.equal(contract.md5(a), contract.md5(sent));
  }
  await connection.query('DROP TABLE blob_mariadb');
}

async function loadDataLocal(connection) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'selkie-load-'));
  try {
    const file = path.join(folder, 'rows.tsv');
    fs.writeFileSync(file, Array.from({ length: 50000 }, (_, n) => `${n}\trow ${n}\n`).join(''));
    await connection.query('CREATE OR REPLACE TABLE load_mariadb (a INT, b VARCHAR(20))');
    await connection.query(`LOAD DATA LOCAL INFILE '${file}' INTO TABLE load_mariadb`);
    const [row] = await connection.query('SELECT COUNT(*) n, SUM(a) s FROM load_mariadb');
    assert.deepEqual([Number(row.n), Number(row.s)], [50000, 1249975000]);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function multiResults(connection) {
  const results = await connection.query("SELECT 1 a; SELECT 'two' b; DO 4; SELECT 5 c");
  assert.deepEqual(results.map((each) => Array.isArray(each) ? Object.values(each[0])[0] : null), [1, 'two', null, 5]);
}

async function changeUser() {
  const changed = await connect();
  await changed.changeUser({ ...contract.other, database: options.database });
  const [row] = await changed.query("SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1) me");
  assert.equal(row.me, contract.other.user.split('.').pop());
  await changed.end();
}

async function reset(connection) {
  await connection.query('SET @left_over = 1');
  await connection.reset();
  assert.equal((await connection.query('SELECT @left_over a'))[0].a, null);
}

async function tls() {
  const secure = await connect({ ssl: { ca: fs.readFileSync(process.env.CA), checkServerIdentity: () => undefined } });
  assert.equal((await secure.query('SELECT 7 a'))[0].a, 7);
  await secure.end();
}

(async () => {
  const connection = await connect();
  await contract.waitForGo();
  await check('wake_by_first_query', async () => assert.equal(Number((await connection.query('SELECT 41 + 1 a'))[0].a), 42));
  await check('types', () => types(connection));
  await check('prepared_statement', () => prepared(connection));
  await check('bulk_execute', () => bulk(connection));
  await check('pipelined', () => pipelined(connection));
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
