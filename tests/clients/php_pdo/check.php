<?php
// PDO's MySQL driver over mysqlnd: emulated and real prepared statements, persistent connections, TLS.
declare(strict_types=1);
require __DIR__ . '/../php/contract.php';

function connect(string $password = PASSWORD, string $database = DATABASE, array $options = []): PDO
{
    $dsn = 'mysql:host=' . HOST . ';port=' . PORT . ";dbname=$database;charset=utf8mb4";
    return new PDO($dsn, USER, $password, $options + [PDO::MYSQL_ATTR_LOCAL_INFILE => true]);
}

function tls_by(string $ca): array
{
    return [PDO::MYSQL_ATTR_SSL_CA => $ca, PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true];
}

/// The first column of the first row.
function one(PDO $connection, string $sql): mixed
{
    return $connection->query($sql)->fetchColumn();
}

/// Runs `act` with statements that PHP puts together itself, then with statements that the server prepares.
function both_ways(PDO $connection, callable $act): void
{
    foreach ([true, false] as $emulated) {
        $connection->setAttribute(PDO::ATTR_EMULATE_PREPARES, $emulated);
        $act();
    }
    $connection->setAttribute(PDO::ATTR_EMULATE_PREPARES, true);
}

function types(PDO $connection): void
{
    foreach (TYPES as $statement) {
        $connection->exec(sprintf($statement, 'pdo'));
    }
    both_ways($connection, function () use ($connection) {
        $select = $connection->prepare(sprintf(SELECT_TYPES, 'pdo') . ' WHERE ? = 1');
        $select->execute([1]);
        check_types($select->fetch(PDO::FETCH_NUM));
    });
}

function prepared(PDO $connection): void
{
    both_ways($connection, function () use ($connection) {
        $connection->exec('CREATE OR REPLACE TABLE ps_pdo (a INT, b VARCHAR(20))');
        $insert = $connection->prepare('INSERT INTO ps_pdo VALUES (:a, :b)');
        foreach ([0, 1, 2] as $n) {
            $insert->execute(['a' => $n, 'b' => "row $n"]);
        }
        $select = $connection->prepare('SELECT a, b FROM ps_pdo WHERE a >= ? ORDER BY a');
        $select->execute([1]);
        equal($select->fetchAll(PDO::FETCH_NUM), [[1, 'row 1'], [2, 'row 2']]);
    });
}

function transaction(PDO $connection): void
{
    $connection->exec('CREATE OR REPLACE TABLE trx_pdo (a INT PRIMARY KEY)');
    $connection->beginTransaction();
    $connection->exec('INSERT INTO trx_pdo VALUES (1)');
    $connection->rollBack();
    $connection->beginTransaction();
    $connection->exec('INSERT INTO trx_pdo VALUES (2)');
    equal($connection->inTransaction(), true);
    $connection->commit();
    equal($connection->inTransaction(), false);
    equal(one($connection, 'SELECT GROUP_CONCAT(a) FROM trx_pdo'), '2');
}

function errors(PDO $connection): void
{
    equal(error_number(fn () => $connection->query('SELEC 1')), 1064);
    equal(error_number(fn () => $connection->query('SELECT * FROM no_such_table')), 1146);
    both_ways($connection, function () use ($connection) {
        $again = $connection->prepare('INSERT INTO trx_pdo VALUES (?)');
        equal(error_number(fn () => $again->execute([2])), 1062);
    });
    equal(error_number(fn () => connect(password: 'wrong')), 1045);
    equal(error_number(fn () => connect(database: 'no_such_db')), 1044);
}

function blob_20mb(PDO $connection): void
{
    $sent = blob();
    both_ways($connection, function () use ($connection, $sent) {
        $connection->exec('CREATE OR REPLACE TABLE blob_pdo (a LONGBLOB)');
        $insert = $connection->prepare('INSERT INTO blob_pdo VALUES (?)');
        $insert->bindParam(1, $sent, PDO::PARAM_LOB);
        $insert->execute();
        equal(one($connection, 'SELECT MD5(a) FROM blob_pdo'), md5($sent));
        $select = $connection->prepare('SELECT a FROM blob_pdo');
        $select->execute();
        equal(md5($select->fetchColumn()), md5($sent));
    });
    $connection->exec('DROP TABLE blob_pdo');
}

function load_data_local(PDO $connection): void
{
    $connection->exec('CREATE OR REPLACE TABLE load_pdo (a INT, b VARCHAR(20))');
    $connection->exec("LOAD DATA LOCAL INFILE '" . rows_file() . "' INTO TABLE load_pdo");
    equal($connection->query('SELECT COUNT(*), SUM(a), MAX(b) FROM load_pdo')->fetch(PDO::FETCH_NUM),
        [50000, '1249975000', 'row 9999']);
}

function multi_results(PDO $connection): void
{
    $results = $connection->query("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5");
    $seen = [];
    do {
        $seen[] = $results->columnCount() ? $results->fetchAll(PDO::FETCH_NUM) : null;
    } while ($results->nextRowset());
    equal($seen, [[[1]], [['two', 3]], null, [[5]]]);
}

/// Rows that are read one by one from the connection, as for large results.
function unbuffered(): void
{
    $connection = connect(options: [PDO::MYSQL_ATTR_USE_BUFFERED_QUERY => false]);
    $sum = 0;
    foreach ($connection->query('SELECT seq FROM seq_1_to_100000', PDO::FETCH_NUM) as [$n]) {
        $sum += $n;
    }
    equal($sum, 5000050000);
}

/// PDO takes a persistent connection again as it was left, after a COM_PING.
function persistent(): void
{
    $id = function (): array {
        $connection = connect(options: [PDO::ATTR_PERSISTENT => true]);
        return [one($connection, 'SELECT CONNECTION_ID()'), one($connection, 'SELECT @left_over := IFNULL(@left_over, 0) + 1')];
    };
    [$first, $one] = $id();
    [$second, $two] = $id();
    equal([(string) $one, (string) $two], ['1', '2']);
    equal($second, $first);
}

/// PDO tells no id and waits for its answer, so the connection asks for its id, and another process kills.
function kill_query(PDO $connection): void
{
    $id = (string) one($connection, 'SELECT CONNECTION_ID()');
    $killer = proc_open([PHP_BINARY, __FILE__, 'kill', $id], [], $pipes);
    equal(error_number(fn () => $connection->query('SELECT SLEEP(60)')), 1317);
    equal(proc_close($killer), 0);
    equal(one($connection, 'SELECT 8'), 8);
}

/// The other process of `kill_query`.
function kill(string $id): never
{
    $connection = connect();
    while (!one($connection, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'")) {
        usleep(10000);
    }
    $connection->exec("KILL QUERY $id");
    exit(0);
}

function tls(): void
{
    $secure = connect(options: tls_by(CA));
    equal(one($secure, 'SELECT 7'), 7);
}

if (($argv[1] ?? null) === 'kill') {
    kill($argv[2]);
}
$connection = connect();
wait_for_go();
check('wake_by_first_query', fn () => equal(one($connection, 'SELECT 41 + 1'), 42));
check('types', fn () => types($connection));
check('prepared_statement', fn () => prepared($connection));
check('transaction', fn () => transaction($connection));
check('errors', fn () => errors($connection));
check('blob_20mb', fn () => blob_20mb($connection));
check('load_data_local', fn () => load_data_local($connection));
check('multi_results', fn () => multi_results($connection));
check('unbuffered', unbuffered(...));
check('persistent', persistent(...));
check('kill_query', fn () => kill_query($connection));
if (CA) {
    check('tls', tls(...));
    check('tls_of_another_ca', fn () => refuses_the_certificate(
        'Cannot connect to MySQL using SSL',
        fn () => connect(options: tls_by(OTHER_CA)),
    ));
}
finish();
