# mysql2 of Ruby over MariaDB's C library: text and prepared, rows streamed one by one, TLS.
#
# One line per check goes out, `ok NAME` or `not ok NAME: why`; the line `connected` is answered by whoever looked whether
# the database still sleeps, and only then the first query goes out.
require 'bigdecimal'
require 'digest'
require 'io/wait'
require 'mysql2'
require 'tempfile'

$stdout.sync = true
$failed = false

def check(name)
  yield
  puts "ok #{name}"
rescue StandardError => why
  $failed = true
  puts "not ok #{name}: #{why.class}: #{why.message}".tr("\n", ' ')
end

def equal(seen, expected)
  raise "#{seen.inspect[0, 300]} where #{expected.inspect[0, 300]} was expected" unless seen == expected
end

def connect(**change)
  Mysql2::Client.new(
    host: ENV['HOST'], port: ENV['PORT'].to_i, username: ENV['USER'], password: ENV['PASSWORD'],
    database: ENV['DATABASE'], encoding: 'utf8mb4', flags: Mysql2::Client::MULTI_STATEMENTS, local_infile: true,
    database_timezone: :utc, **change
  )
end

# The MySQL error that the block ends in.
def error_number
  yield
rescue Mysql2::Error => why
  why.error_number
else
  raise 'no error came'
end

def first(result)
  result.first.values
end

client = connect
puts 'connected'
$stdin.gets

check('wake_by_first_query') { equal(first(client.query('SELECT 41 + 1')), [42]) }

check('types') do
  client.query(
    'CREATE OR REPLACE TABLE types_ruby (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), n INT, b BLOB,
     s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10), f DOUBLE)'
  )
  client.query(
    "INSERT INTO types_ruby VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,
     '2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'selkie \u{1f9ad}', '{\"a\": [1, null]}', b'1000000001', 0.1)"
  )
  expected = [
    -2147483648, 18446744073709551615, BigDecimal('-12345678901234.567890'),
    Time.utc(2024, 2, 29, 23, 59, 59, 123456), nil, "\x00\xff\n\r\\'".b, "selkie \u{1f9ad}", '{"a": [1, null]}', 513, 0.1
  ]
  select = 'SELECT i, u, d, dt, n, b, s, j, bi + 0, f FROM types_ruby'
  equal(first(client.query(select)), expected)
  equal(first(client.prepare(select).execute), expected)
end

check('prepared_statement') do
  client.query('CREATE OR REPLACE TABLE ps_ruby (a INT, b VARCHAR(20))')
  insert = client.prepare('INSERT INTO ps_ruby VALUES (?, ?)')
  3.times { |n| insert.execute(n, "row #{n}") }
  insert.close
  select = client.prepare('SELECT a, b FROM ps_ruby WHERE a >= ? ORDER BY a')
  equal(select.execute(1).map(&:values), [[1, 'row 1'], [2, 'row 2']])
end

check('transaction') do
  client.query('CREATE OR REPLACE TABLE trx_ruby (a INT PRIMARY KEY)')
  ['ROLLBACK', 'COMMIT'].each.with_index(1) do |ending, n|
    client.query('BEGIN')
    client.query("INSERT INTO trx_ruby VALUES (#{n})")
    client.query(ending)
  end
  equal(client.query('SELECT a FROM trx_ruby').map(&:values), [[2]])
end

check('errors') do
  equal(error_number { client.query('SELEC 1') }, 1064)
  equal(error_number { client.query('SELECT * FROM no_such_table') }, 1146)
  equal(error_number { client.prepare('INSERT INTO trx_ruby VALUES (?)').execute(2) }, 1062)
  equal(error_number { connect(password: 'wrong') }, 1045)
  equal(error_number { connect(database: 'no_such_db') }, 1044)
end

check('blob_20mb') do
  sent = (1..20 * 1024 * 1024 / 64).map { |n| Digest::SHA512.digest(n.to_s) }.join
  client.query('CREATE OR REPLACE TABLE blob_ruby (a LONGBLOB)')
  client.prepare('INSERT INTO blob_ruby VALUES (?)').execute(sent)
  md5 = Digest::MD5.hexdigest(sent)
  equal(first(client.query('SELECT MD5(a) FROM blob_ruby')), [md5])
  select = 'SELECT a FROM blob_ruby'
  equal(Digest::MD5.hexdigest(first(client.query(select))[0]), md5)
  equal(Digest::MD5.hexdigest(first(client.prepare(select).execute)[0]), md5)
  client.query('DROP TABLE blob_ruby')
end

check('load_data_local') do
  Tempfile.create do |file|
    50_000.times { |n| file.puts("#{n}\trow #{n}") }
    file.flush
    client.query('CREATE OR REPLACE TABLE load_ruby (a INT, b VARCHAR(20))')
    client.query("LOAD DATA LOCAL INFILE '#{file.path}' INTO TABLE load_ruby")
  end
  equal(first(client.query('SELECT COUNT(*), SUM(a), MAX(b) FROM load_ruby')), [50_000, 1_249_975_000, 'row 9999'])
end

check('multi_results') do
  seen = [client.query("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5").map(&:values)]
  seen << client.store_result&.map(&:values) while client.next_result
  equal(seen, [[[1]], [['two', 3]], nil, [[5]]])
end

# On a connection of its own: where a prepared statement is collected as garbage meanwhile, the driver loses its place.
check('unbuffered') do
  streaming = connect
  rows = streaming.query('SELECT seq FROM seq_1_to_100000', stream: true, cache_rows: false, as: :array)
  sum = 0
  rows.each { |row| sum += row[0] }
  equal(sum, 5_000_050_000)
  streaming.close
end

# The program waits for the socket itself, as event loops do.
check('async') do
  client.query('SELECT 41 + 1', async: true)
  equal(IO.for_fd(client.socket, autoclose: false).wait_readable(60).nil?, false)
  equal(first(client.async_result), [42])
end

# By the id that the login told, from another connection; the connection goes on.
check('kill_query') do
  other = connect
  client.query('SELECT SLEEP(60)', async: true)
  sleep 0.01 until first(other.query("SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"))[0] > 0
  other.query("KILL QUERY #{client.thread_id}")
  equal(error_number { client.async_result }, 1317)
  equal(first(client.query('SELECT 8')), [8])
  other.close
end

check('ping') { equal(client.ping, true) }

def over_tls(ca)
  connect(sslca: ca, sslverify: true)
end

if ENV['CA']
  check('tls') do
    secure = over_tls(ENV['CA'])
    equal(secure.ssl_cipher.to_s.empty?, false)
    equal(first(secure.query('SELECT 7')), [7])
    secure.close
  end
  # 2026: CR_SSL_CONNECTION_ERROR.
  check('tls_of_another_ca') { equal(error_number { over_tls(ENV['OTHER_CA']) }, 2026) }
end
client.close
exit($failed ? 1 : 0)
