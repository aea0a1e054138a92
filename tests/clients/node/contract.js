// What both Node drivers are held to. One line per check goes out, `ok NAME` or `not ok NAME: why`; the line `connected`
// is answered by whoever looked whether the database still sleeps, and only then the first query goes out.
'use strict';
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const readline = require('node:readline');

const settings = {
  host: process.env.HOST,
  port: Number(process.env.PORT),
  user: process.env.USER,
  password: process.env.PASSWORD,
  database: process.env.DATABASE,
};
const other = { user: process.env.OTHER_USER, password: process.env.OTHER_PASSWORD };

async function check(name, act) {
  try {
    await act();
    console.log(`ok ${name}`);
  } catch (why) {
    process.exitCode = 1;
    console.log(`not ok ${name}: ${String(why && why.message || why).replaceAll('\n', ' ')}`);
  }
}

function waitForGo() {
  console.log('connected');
  const lines = readline.createInterface({ input: process.stdin });
  return new Promise((resolve) => lines.once('line', () => { lines.close(); process.stdin.destroy(); resolve(); }));
}

async function errorNumber(act) {
  try {
    await act();
  } catch (why) {
    return why.errno;
  }
  throw new Error('no error came');
}

const blob = () => Buffer.alloc(20 * 1024 * 1024, crypto.createHash('sha512').update('selkie').digest());
const md5 = (bytes) => crypto.createHash('md5').update(bytes).digest('hex');

const CREATE_TYPES = `CREATE OR REPLACE TABLE types_node (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt VARCHAR(30),
  n INT, b BLOB, s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10))`;
const FILL_TYPES = `INSERT INTO types_node VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,
  '2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'sel\u00adkie \u{1f9ad}', '{"a": [1, null]}', b'1000000001')`;
const SELECT_TYPES = `SELECT i, CAST(u AS CHAR) u, d, CAST(dt AS DATETIME(6)) dt, n, b, s, CAST(j AS CHAR) j, bi + 0 bi
  FROM types_node`;

/// What every driver's row of `SELECT_TYPES` must say; dates differ in form and are looked at by each itself.
function checkTypes(row) {
  assert.equal(row.i, -2147483648);
  assert.equal(row.u, '18446744073709551615');
  assert.equal(String(row.d), '-12345678901234.567890');
  assert.equal(row.n, null);
  assert.deepEqual(row.b, Buffer.from('00ff0a0d5c27', 'hex'));
  assert.equal(row.s, 'sel\u00adkie \u{1f9ad}');
  assert.deepEqual(typeof row.j === 'string' ? JSON.parse(row.j) : row.j, { a: [1, null] });
  assert.equal(Number(row.bi), 513);
}

module.exports = { settings, other, check, waitForGo, errorNumber, blob, md5, CREATE_TYPES, FILL_TYPES, SELECT_TYPES, checkTypes };
