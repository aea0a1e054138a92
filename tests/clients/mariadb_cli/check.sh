#!/usr/bin/env bash
# The mariadb command line client, as a person uses it: one long interactive session, started with -A as selkie's own
# command line does (without it the client asks for table names at once, and that wakes).
set -uo pipefail

work=$(mktemp -d)
failed=0
client=
trap '[[ -n $client ]] && kill "$client" 2>/dev/null; rm -rf "$work"' EXIT

option_file() {
    (
        umask 077
        printf '[client]\nhost=%s\nport=%s\nuser=%s\npassword="%s"\nprotocol=tcp\n' "$HOST" "$PORT" "$1" "$2" >"$work/$3.cnf"
    )
}
option_file "$USER" "$PASSWORD" login
option_file "$USER" wrong wrong

mariadb_as() { mariadb --defaults-file="$work/$1.cnf" -A -N -B --default-character-set=utf8mb4 --local-infile=1 "${@:2}"; }

check() {
    local name=$1 expected=$2 seen
    seen=$("${@:3}" 2>&1 | tr '\n\t' '| ')
    seen=${seen%|}
    if [[ $seen == $expected ]]; then
        echo "ok $name"
    else
        failed=1
        echo "not ok $name: '${seen:0:300}' where '$expected' was expected"
    fi
}

sql() { mariadb_as login "$DATABASE" -e "$1"; }
# A login that goes on while the database was looked at: it sends nothing until its first statement.
mkfifo "$work/in" "$work/out"
mariadb_as login --unbuffered "$DATABASE" <"$work/in" >"$work/out" 2>&1 &
client=$!
exec 3>"$work/in" 4<"$work/out"
# The client's own \! runs after the login, and nothing was sent by then.
echo '\! echo logged in' >&3
read -r -t 30 said <&4
[[ $said == 'logged in' ]] || { echo "not ok login: $said"; exit 1; }
echo connected
read -r _

echo 'SELECT 41 + 1;' >&3
read -r -t 90 said <&4
check wake_by_first_query 42 echo "$said"
exec 3>&- 4<&-
wait "$client"
client=

check types "-5 18446744073709551615 -1.50 2024-02-29 23:59:59.123456 NULL 00FF27 selkie 🦭 513" sql "
    CREATE OR REPLACE TABLE types_cli (i INT, u BIGINT UNSIGNED, d DECIMAL(9,2), dt DATETIME(6), n INT, b BLOB, s VARCHAR(80), bi BIT(10));
    INSERT INTO types_cli VALUES (-5, 18446744073709551615, -1.5, '2024-02-29 23:59:59.123456', NULL, x'00ff27', 'selkie 🦭', b'1000000001');
    SET NAMES utf8mb4; SELECT i, u, d, dt, n, HEX(b), s, bi + 0 FROM types_cli"
check prepared_statement "7|8" sql "PREPARE p FROM 'SELECT ? + 1'; SET @a = 6; EXECUTE p USING @a; SET @a = 7; EXECUTE p USING @a"
check transaction 2 sql "
    CREATE OR REPLACE TABLE trx_cli (a INT PRIMARY KEY);
    BEGIN; INSERT INTO trx_cli VALUES (1); ROLLBACK; BEGIN; INSERT INTO trx_cli VALUES (2); COMMIT; SELECT * FROM trx_cli"
errors() {
    { sql "SELEC 1"; sql "SELECT * FROM no_such_table"; sql "INSERT INTO trx_cli VALUES (2)"
        mariadb_as wrong "$DATABASE" -e "SELECT 1"; mariadb_as login no_such_db -e "SELECT 1"; } 2>&1 | grep -oE 'ERROR [0-9]+'
}
check errors "ERROR 1064|ERROR 1146|ERROR 1062|ERROR 1045|ERROR 1044" errors
blob() {
    head -c 20971520 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$work/blob"
    { printf "CREATE OR REPLACE TABLE blob_cli (a LONGBLOB); INSERT INTO blob_cli VALUES (x'"; cat "$work/blob"; echo "');"; } |
        mariadb_as login --max-allowed-packet=1G "$DATABASE"
    mariadb_as login --max-allowed-packet=1G "$DATABASE" -e 'SELECT LOWER(HEX(a)) FROM blob_cli' | tr -d '\n' | cmp - "$work/blob" && echo same
    sql 'DROP TABLE blob_cli'
}
check blob_20mb same blob
seq -f '%.0f	row' 50000 >"$work/rows.tsv"
check load_data_local "50000 1250025000" sql "
    CREATE OR REPLACE TABLE load_cli (a INT, b VARCHAR(20)); LOAD DATA LOCAL INFILE '$work/rows.tsv' INTO TABLE load_cli;
    SELECT COUNT(*), SUM(a) FROM load_cli"
check multi_results "1|two 3|5" sql "DELIMITER //
SELECT 1; SELECT 'two', 3; DO 4; SELECT 5//"
status() { sql 'status' | grep -c '^Server version:.*MariaDB'; }
check status 1 status
exit "$failed"
