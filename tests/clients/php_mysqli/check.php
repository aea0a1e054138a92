<?php
// mysqli over mysqlnd, PHP's own implementation of the protocol: text and prepared, long data, cursors, TLS.
declare(strict_types=1);
require __DIR__ . '/../php/contract.php';

function connect(string $host = HOST, string $password = PASSWORD, string $database = DATABASE, ?string $ca = null): mysqli
{
    $connection = mysqli_init();
    $connection->options(MYSQLI_OPT_LOCAL_INFILE, true);
    if ($ca !== null) {
        $connection->options(MYSQLI_OPT_SSL_VERIFY_SERVER_CERT, true);
        $connection->ssl_set(null, null, $ca, null, null);
    }
    $connection->real_connect($host, USER, $password, $database, PORT, null, $ca === null ? 0 : MYSQLI_CLIENT_SSL);
    $connection->set_charset('utf8mb4');
    return $connection;
}

/// The first column of the first row.
function one(mysqli $connection, string $sql): ?string
{
    return $connection->query($sql)->fetch_row()[0];
}

function types(mysqli $connection): void
{
    foreach (TYPES as $statement) {
        $connection->query(sprintf($statement, 'mysqli'));
    }
    $select = sprintf(SELECT_TYPES, 'mysqli');
    check_types($connection->query($select)->fetch_row());
    $unbuffered = $connection->query($select, MYSQLI_USE_RESULT);
    check_types($unbuffered->fetch_row());
    $unbuffered->free();
    check_types($connection->execute_query($select)->fetch_row());
}

function prepared(mysqli $connection): void
{
    $connection->query('CREATE OR REPLACE TABLE ps_mysqli (a INT, b VARCHAR(20))');
    $insert = $connection->prepare('INSERT INTO ps_mysqli VALUES (?, ?)');
    $insert->bind_param('is', $a, $b);
    foreach ([0, 1, 2] as $a) {
        $b = "row $a";
        $insert->execute();
    }
    $insert->close();
    $select = $connection->prepare('SELECT a, b FROM ps_mysqli WHERE a >= ? ORDER BY a');
    $select->execute([1]);
    equal($select->get_result()->fetch_all(), [[1, 'row 1'], [2, 'row 2']]);
}

function cursor(mysqli $connection): void
{
    $select = $connection->prepare('SELECT seq FROM seq_1_to_1000');
    $select->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
    $select->execute();
    $select->bind_result($n);
    $sum = 0;
    while ($select->fetch()) {
        $sum += $n;
    }
    equal($sum, 500500);
    $select->close();
}

function transaction(mysqli $connection): void
{
    $connection->query('CREATE OR REPLACE TABLE trx_mysqli (a INT PRIMARY KEY)');
    $connection->begin_transaction();
    $connection->query('INSERT INTO trx_mysqli VALUES (1)');
    $connection->rollback();
    $connection->autocommit(false);
    $connection->query('INSERT INTO trx_mysqli VALUES (2)');
    $connection->commit();
    $connection->autocommit(true);
    equal(one($connection, 'SELECT GROUP_CONCAT(a) FROM trx_mysqli'), '2');
}

function errors(mysqli $connection): void
{
    equal(error_number(fn () => $connection->query('SELEC 1')), 1064);
    equal(error_number(fn () => $connection->query('SELECT * FROM no_such_table')), 1146);
    equal(error_number(fn () => $connection->execute_query('INSERT INTO trx_mysqli VALUES (?)', [2])), 1062);
    equal(error_number(fn () => connect(password: 'wrong')), 1045);
    equal(error_number(fn () => connect(database: 'no_such_db')), 1044);
}

/// Sent as long data, in pieces; read as text and as a prepared statement's row.
function blob_20mb(mysqli $connection): void
{
    $sent = blob();
    $connection->query('CREATE OR REPLACE TABLE blob_mysqli (a LONGBLOB)');
    $insert = $connection->prepare('INSERT INTO blob_mysqli VALUES (?)');
    $insert->bind_param('b', $nothing);
    foreach (str_split($sent, 1000000) as $piece) {
        $insert->send_long_data(0, $piece);
    }
    $insert->execute();
    equal(one($connection, 'SELECT MD5(a) FROM blob_mysqli'), md5($sent));
    equal(md5(one($connection, 'SELECT a FROM blob_mysqli')), md5($sent));
    equal(md5($connection->execute_query('SELECT a FROM blob_mysqli')->fetch_row()[0]), md5($sent));
    $connection->query('DROP TABLE blob_mysqli');
}

function load_data_local(mysqli $connection): void
{
    $connection->query('CREATE OR REPLACE TABLE load_mysqli (a INT, b VARCHAR(20))');
    $connection->query("LOAD DATA LOCAL INFILE '" . rows_file() . "' INTO TABLE load_mysqli");
    equal($connection->query('SELECT COUNT(*), SUM(a), MAX(b) FROM load_mysqli')->fetch_row(),
        ['50000', '1249975000', 'row 9999']);
}

function multi_results(mysqli $connection): void
{
    $connection->multi_query("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5");
    $seen = [];
    do {
        $result = $connection->store_result();
        $seen[] = $result ? $result->fetch_all() : null;
    } while ($connection->next_result());
    equal($seen, [[['1']], [['two', '3']], null, [['5']]]);
}

function change_user(): void
{
    $connection = connect();
    $connection->change_user(getenv('OTHER_USER'), getenv('OTHER_PASSWORD'), DATABASE);
    $bare = substr(strrchr('.' . getenv('OTHER_USER'), '.'), 1);
    equal(one($connection, "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)"), $bare);
    $connection->close();
}

/// A persistent connection is taken again and logged in anew, by COM_CHANGE_USER: nothing of before is left.
function persistent(): void
{
    $first = connect('p:' . HOST);
    $id = $first->thread_id;
    $first->query('SET @left_over = 1');
    $first->close();
    $second = connect('p:' . HOST);
    equal($second->thread_id, $id);
    equal(one($second, 'SELECT @left_over'), null);
    $second->close();
}

/// By the id that the login told, from another connection; the connection goes on.
function kill_query(mysqli $connection): void
{
    $other = connect();
    $connection->query('SELECT SLEEP(60)', MYSQLI_ASYNC);
    while (!one($other, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'")) {
        usleep(10000);
    }
    $other->query("KILL QUERY $connection->thread_id");
    equal(error_number(fn () => $connection->reap_async_query()), 1317);
    equal(one($connection, 'SELECT 8'), '8');
    $other->close();
}

function tls(): void
{
    $secure = connect(ca: CA);
    equal(one($secure, 'SELECT 7'), '7');
    $secure->close();
}

$connection = connect();
wait_for_go();
check('wake_by_first_query', fn () => equal(one($connection, 'SELECT 41 + 1'), '42'));
check('types', fn () => types($connection));
check('prepared_statement', fn () => prepared($connection));
check('cursor', fn () => cursor($connection));
check('transaction', fn () => transaction($connection));
check('errors', fn () => errors($connection));
check('blob_20mb', fn () => blob_20mb($connection));
check('load_data_local', fn () => load_data_local($connection));
check('multi_results', fn () => multi_results($connection));
check('change_user', change_user(...));
check('persistent', persistent(...));
check('kill_query', fn () => kill_query($connection));
if (CA) {
    check('tls', tls(...));
    check('tls_of_another_ca', fn () => refuses_the_certificate(
        'certificate verify failed',
        fn () => connect(ca: OTHER_CA),
    ));
}
$connection->close();
finish();
