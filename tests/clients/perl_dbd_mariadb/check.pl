#!/usr/bin/env perl
# DBD::MariaDB over MariaDB's C library: text and prepared by the server, TLS.
#
# One line per check goes out, `ok NAME` or `not ok NAME: why`; the line `connected` is answered by whoever looked whether
# the database still sleeps, and only then the first query goes out.
use v5.36;
use utf8;
use DBI;
use Digest::MD5 'md5_hex';
use Digest::SHA 'sha512';
use File::Temp;

$| = 1;
my $failed = 0;

sub check ($name, $act) {
    if (eval { $act->(); 1 }) {
        say "ok $name";
    } else {
        $failed = 1;
        say "not ok $name: " . $@ =~ s/\n/ /gr;
    }
}

sub equal ($seen, $expected) {
    my ($left, $right) = map { join '|', map { $_ // 'NULL' } ref $_ ? @$_ : $_ } $seen, $expected;
    die substr($left, 0, 300) . ' where ' . substr($right, 0, 300) . " was expected\n" if $left ne $right;
}

sub login (%change) {
    my $password = delete $change{password} // $ENV{PASSWORD};
    my $database = delete $change{database} // $ENV{DATABASE};
    return DBI->connect(
        "DBI:MariaDB:database=$database;host=$ENV{HOST};port=$ENV{PORT}",
        $ENV{USER}, $password,
        { RaiseError => 1, PrintError => 0, mariadb_local_infile => 1, mariadb_multi_statements => 1, %change },
    );
}

# The MySQL error that `act` ends in.
sub error_number ($act) {
    eval { $act->(); 1 } and die "no error came\n";
    return $DBI::err;
}

sub row ($connection, $sql, @values) {
    return [$connection->selectrow_array($sql, undef, @values)];
}

# Runs `act` with statements that the driver puts together itself, then with statements that the server prepares.
sub both_ways ($connection, $act) {
    for my $way (0, 1) {
        local $connection->{mariadb_server_prepare} = $way;
        $act->();
    }
}

my $connection = login();
say 'connected';
readline STDIN;

check(wake_by_first_query => sub { equal(row($connection, 'SELECT 41 + 1'), 42) });

check(types => sub {
    $connection->do(
        'CREATE OR REPLACE TABLE types_perl (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), n INT, b BLOB,
         s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10), f DOUBLE)');
    $connection->do(
        "INSERT INTO types_perl VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,
         '2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'selkie 🦭', '{\"a\": [1, null]}', b'1000000001', 0.1)");
    both_ways($connection, sub {
        equal(
            row($connection, 'SELECT i, u, d, dt, n, b, s, j, bi + 0, f FROM types_perl WHERE ? = 1', 1),
            [-2147483648, '18446744073709551615', '-12345678901234.567890', '2024-02-29 23:59:59.123456', undef,
                "\x00\xff\n\r\\'", 'selkie 🦭', '{"a": [1, null]}', 513, 0.1]);
    });
});

check(prepared_statement => sub {
    both_ways($connection, sub {
        $connection->do('CREATE OR REPLACE TABLE ps_perl (a INT, b VARCHAR(20))');
        my $insert = $connection->prepare('INSERT INTO ps_perl VALUES (?, ?)');
        $insert->execute($_, "row $_") for 0 .. 2;
        my $rows = $connection->selectall_arrayref('SELECT a, b FROM ps_perl WHERE a >= ? ORDER BY a', undef, 1);
        equal([map { @$_ } @$rows], [1, 'row 1', 2, 'row 2']);
    });
});

check(transaction => sub {
    $connection->do('CREATE OR REPLACE TABLE trx_perl (a INT PRIMARY KEY)');
    $connection->begin_work;
    $connection->do('INSERT INTO trx_perl VALUES (1)');
    $connection->rollback;
    $connection->begin_work;
    $connection->do('INSERT INTO trx_perl VALUES (2)');
    $connection->commit;
    equal(row($connection, 'SELECT GROUP_CONCAT(a) FROM trx_perl'), 2);
});

check(errors => sub {
    equal(error_number(sub { $connection->do('SELEC 1') }), 1064);
    equal(error_number(sub { $connection->do('SELECT * FROM no_such_table') }), 1146);
    both_ways($connection, sub {
        equal(error_number(sub { $connection->do('INSERT INTO trx_perl VALUES (?)', undef, 2) }), 1062);
    });
    equal(error_number(sub { login(password => 'wrong') }), 1045);
    equal(error_number(sub { login(database => 'no_such_db') }), 1044);
});

check(blob_20mb => sub {
    my $sent = join '', map { sha512($_) } 1 .. 20 * 1024 * 1024 / 64;
    both_ways($connection, sub {
        $connection->do('CREATE OR REPLACE TABLE blob_perl (a LONGBLOB)');
        my $insert = $connection->prepare('INSERT INTO blob_perl VALUES (?)');
        $insert->bind_param(1, $sent, DBI::SQL_BLOB);
        $insert->execute;
        equal(row($connection, 'SELECT MD5(a) FROM blob_perl'), md5_hex($sent));
        my ($seen) = $connection->selectrow_array('SELECT a FROM blob_perl');
        equal(md5_hex($seen), md5_hex($sent));
    });
    $connection->do('DROP TABLE blob_perl');
});

check(load_data_local => sub {
    my $file = File::Temp->new;
    print $file "$_\trow $_\n" for 0 .. 49_999;
    close $file;
    $connection->do('CREATE OR REPLACE TABLE load_perl (a INT, b VARCHAR(20))');
    $connection->do("LOAD DATA LOCAL INFILE '" . $file->filename . "' INTO TABLE load_perl");
    equal(row($connection, 'SELECT COUNT(*), SUM(a), MAX(b) FROM load_perl'), [50_000, 1249975000, 'row 9999']);
});

check(multi_results => sub {
    my $results = $connection->prepare("SELECT 1; SELECT 'two', 3; DO 4; SELECT 5");
    $results->execute;
    my @seen;
    do {
        push @seen, $results->{NUM_OF_FIELDS} ? @{ $results->fetchrow_arrayref } : 'none';
    } while ($results->more_results);
    equal(\@seen, [1, 'two', 3, 'none', 5]);
});

check(ping => sub { equal($connection->ping, 1) });

# By the id that the login told, from another connection; the connection goes on.
check(kill_query => sub {
    my $other = login();
    my $sleeping = $connection->prepare('SELECT SLEEP(60)', { mariadb_async => 1 });
    $sleeping->execute;
    until (row($other, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'")->[0]) {
        select undef, undef, undef, 0.01;
    }
    $other->do("KILL QUERY $connection->{mariadb_thread_id}");
    equal(error_number(sub { $sleeping->mariadb_async_result }), 1317);
    equal(row($connection, 'SELECT 8'), 8);
    $other->disconnect;
});

sub over_tls ($ca) {
    return login(mariadb_ssl => 1, mariadb_ssl_ca_file => $ca, mariadb_ssl_verify_server_cert => 1);
}
if ($ENV{CA}) {
    check(tls => sub {
        my $secure = over_tls($ENV{CA});
        equal(row($secure, 'SELECT 7'), 7);
        $secure->disconnect;
    });
    check(tls_of_another_ca => sub {
        # 2026: CR_SSL_CONNECTION_ERROR.
        equal(error_number(sub { over_tls($ENV{OTHER_CA}) }), 2026);
    });
}
$connection->disconnect;
exit $failed;
