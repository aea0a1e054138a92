<?php
// What both PHP drivers are held to. One line per check goes out, `ok NAME` or `not ok NAME: why`; the line `connected`
// is answered by whoever looked whether the database still sleeps, and only then the first query goes out.
declare(strict_types=1);

define('HOST', getenv('HOST'));
define('PORT', (int) getenv('PORT'));
define('USER', getenv('USER'));
define('PASSWORD', getenv('PASSWORD'));
define('DATABASE', getenv('DATABASE'));
// The certificate authority to trust, and one that signed nothing; not set where the server has no TLS.
define('CA', getenv('CA'));
define('OTHER_CA', getenv('OTHER_CA'));

$failed = false;

function check(string $name, callable $act): void
{
    global $failed;
    try {
        $act();
        echo "ok $name\n";
    } catch (Throwable $why) {
        $failed = true;
        echo str_replace("\n", ' ', "not ok $name: " . get_class($why) . ': ' . $why->getMessage()), "\n";
    }
}

function equal(mixed $seen, mixed $expected): void
{
    if ($seen !== $expected) {
        throw new Exception(short($seen) . ' where ' . short($expected) . ' was expected');
    }
}

function short(mixed $value): string
{
    return substr(var_export($value, true), 0, 300);
}

/// Says that the login is through and waits until the database was looked at.
function wait_for_go(): void
{
    echo "connected\n";
    fgets(STDIN);
}

/// The MySQL error that `act` ends in; mysqli and PDO keep it in different places.
function error_number(callable $act): int
{
    try {
        $act();
    } catch (PDOException $why) {
        // errorInfo is not there for what went wrong before the server said anything.
        return $why->errorInfo[1] ?? throw $why;
    } catch (mysqli_sql_exception $why) {
        return $why->getCode();
    }
    throw new Exception('no error came');
}

/// Fails unless connecting by `act` ends for the reason `why`: the certificate was signed by somebody else.
function refuses_the_certificate(string $why, callable $act): void
{
    $said = '';
    set_error_handler(function (int $level, string $text) use (&$said) {
        $said .= $text;
        return true;
    });
    try {
        $act();
    } catch (PDOException | mysqli_sql_exception $error) {
        $said .= $error->getMessage();
    } finally {
        restore_error_handler();
    }
    if (!str_contains($said, $why)) {
        throw new Exception("it ended in '$said'");
    }
}

/// 20 MB that no compression or repetition hides a gap in.
function blob(): string
{
    $blob = '';
    for ($n = 0; $n < 20 * 1024 * 1024 / 64; $n++) {
        $blob .= hash('sha512', (string) $n, true);
    }
    return $blob;
}

/// A file of 50,000 rows for LOAD DATA LOCAL, gone when the program ends.
function rows_file(): string
{
    static $file;
    $file = tmpfile();
    for ($n = 0; $n < 50000; $n++) {
        fwrite($file, "$n\trow $n\n");
    }
    fflush($file);
    return stream_get_meta_data($file)['uri'];
}

const TYPES = [
    "CREATE OR REPLACE TABLE types_%s (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), n INT, b BLOB,
     s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10), f DOUBLE)",
    "INSERT INTO types_%s VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,
     '2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'selkie \u{1f9ad}', '{\"a\": [1, null]}', b'1000000001', 0.1)",
];
const SELECT_TYPES = 'SELECT i, u, d, dt, n, b, s, j, bi + 0, f FROM types_%s';

/// What a row of `SELECT_TYPES` must hold: numbers are texts in the one protocol and numbers in the other.
function check_types(array $row): void
{
    equal(array_map(fn ($value) => $value === null ? null : (string) $value, $row), [
        '-2147483648', '18446744073709551615', '-12345678901234.567890', '2024-02-29 23:59:59.123456', null,
        "\x00\xff\n\r\\'", "selkie \u{1f9ad}", '{"a": [1, null]}', '513', '0.1',
    ]);
}

function finish(): never
{
    global $failed;
    exit($failed ? 1 : 0);
}
