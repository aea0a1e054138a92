// go-sql-driver as Debian ships it: native and caching_sha2, text and prepared, LOAD DATA LOCAL, TLS.
//
// One line per check goes out, `ok NAME` or `not ok NAME: why`; the line `connected` is answered by whoever looked
// whether the database still sleeps, and only then the first query goes out.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

var failed = false

func check(name string, act func() error) {
	if why := act(); why != nil {
		failed = true
		fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(why.Error(), "\n", " "))
	} else {
		fmt.Printf("ok %s\n", name)
	}
}

func settings() *mysql.Config {
	config := mysql.NewConfig()
	config.User, config.Passwd = os.Getenv("USER"), os.Getenv("PASSWORD")
	config.Net, config.Addr = "tcp", os.Getenv("HOST")+":"+os.Getenv("PORT")
	config.DBName = os.Getenv("DATABASE")
	config.MultiStatements, config.ParseTime = true, true
	config.MaxAllowedPacket = 64 << 20
	return config
}

func open(config *mysql.Config) *sql.DB {
	db, why := sql.Open("mysql", config.FormatDSN())
	if why != nil {
		panic(why)
	}
	db.SetMaxOpenConns(1)
	return db
}

// The MySQL error number that logging in as `change` says ends in.
func loginError(change func(*mysql.Config)) uint16 {
	config := settings()
	change(config)
	db := open(config)
	defer db.Close()
	return number(db.Ping())
}

func number(why error) uint16 {
	var told *mysql.MySQLError
	if errors.As(why, &told) {
		return told.Number
	}
	return 0
}

func equal(seen, expected interface{}) error {
	if fmt.Sprint(seen) != fmt.Sprint(expected) {
		return fmt.Errorf("%v where %v was expected", seen, expected)
	}
	return nil
}

func run(db *sql.DB, statements ...string) error {
	for _, statement := range statements {
		if _, why := db.Exec(statement); why != nil {
			return fmt.Errorf("%s: %w", statement, why)
		}
	}
	return nil
}

func types(db *sql.DB) error {
	why := run(db,
		`CREATE OR REPLACE TABLE types_go (i INT, u BIGINT UNSIGNED, d DECIMAL(20,6), dt DATETIME(6), n INT, b BLOB,
			s VARCHAR(80) CHARACTER SET utf8mb4, j JSON, bi BIT(10))`,
		`INSERT INTO types_go VALUES (-2147483648, 18446744073709551615, -12345678901234.567890,
			'2024-02-29 23:59:59.123456', NULL, x'00ff0a0d5c27', 'selkie 🦭', '{"a": [1, null]}', b'1000000001')`)
	if why != nil {
		return why
	}
	for _, args := range [][]interface{}{nil, {1}} {
		query := "SELECT * FROM types_go"
		if args != nil {
			query += " WHERE ? = 1" // goes as a prepared statement, so the row comes in binary
		}
		var i int32
		var u uint64
		var d, s, j string
		var at time.Time
		var n sql.NullInt32
		var b, bits []byte
		if why := db.QueryRow(query, args...).Scan(&i, &u, &d, &at, &n, &b, &s, &j, &bits); why != nil {
			return why
		}
		seen := fmt.Sprint(i, u, d, at.Format("2006-01-02 15:04:05.000000"), n.Valid, b, s, j, bits)
		expected := fmt.Sprint(-2147483648, uint64(18446744073709551615), "-12345678901234.567890",
			"2024-02-29 23:59:59.123456", false, []byte("\x00\xff\n\r\\'"), "selkie 🦭", `{"a": [1, null]}`, []byte{2, 1})
		if why := equal(seen, expected); why != nil {
			return why
		}
	}
	return nil
}

func prepared(db *sql.DB) error {
	if why := run(db, "CREATE OR REPLACE TABLE ps_go (a INT, b VARCHAR(20))"); why != nil {
		return why
	}
	statement, why := db.Prepare("INSERT INTO ps_go VALUES (?, ?)")
	if why != nil {
		return why
	}
	for n := 0; n < 3; n++ {
		if _, why := statement.Exec(n, fmt.Sprint("row ", n)); why != nil {
			return why
		}
	}
	statement.Close()
	var a, b string
	if why := db.QueryRow("SELECT SUM(a), MAX(b) FROM ps_go WHERE a >= ?", 1).Scan(&a, &b); why != nil {
		return why
	}
	return equal(a+b, "3row 2")
}

func transaction(db *sql.DB) error {
	if why := run(db, "CREATE OR REPLACE TABLE trx_go (a INT PRIMARY KEY)"); why != nil {
		return why
	}
	for n, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, why := db.Begin()
		if why != nil {
			return why
		}
		if _, why := tx.Exec("INSERT INTO trx_go VALUES (?)", n); why != nil {
			return why
		}
		if why := end(tx); why != nil {
			return why
		}
	}
	var seen string
	if why := db.QueryRow("SELECT GROUP_CONCAT(a) FROM trx_go").Scan(&seen); why != nil {
		return why
	}
	return equal(seen, "1")
}

func errorCodes(db *sql.DB) error {
	seen := []uint16{number(run(db, "SELEC 1")), number(run(db, "SELECT * FROM no_such_table")),
		number(run(db, "INSERT INTO trx_go VALUES (1)")),
		loginError(func(config *mysql.Config) { config.Passwd = "wrong" }),
		loginError(func(config *mysql.Config) { config.DBName = "no_such_db" })}
	return equal(seen, []uint16{1064, 1146, 1062, 1045, 1044})
}

func blob(db *sql.DB) error {
	digest := sha512.Sum512([]byte("selkie"))
	sent := bytes.Repeat(digest[:], 20<<20/len(digest))
	if why := run(db, "CREATE OR REPLACE TABLE blob_go (a LONGBLOB)"); why != nil {
		return why
	}
	if _, why := db.Exec("INSERT INTO blob_go VALUES (?)", sent); why != nil {
		return why
	}
	var sum string
	var seen []byte
	if why := db.QueryRow("SELECT MD5(a), a FROM blob_go").Scan(&sum, &seen); why != nil {
		return why
	}
	expected := fmt.Sprintf("%x", md5.Sum(sent))
	if why := equal(sum, expected); why != nil {
		return why
	}
	if why := equal(fmt.Sprintf("%x", md5.Sum(seen)), expected); why != nil {
		return why
	}
	return run(db, "DROP TABLE blob_go")
}

func loadDataLocal(db *sql.DB) error {
	mysql.RegisterReaderHandler("rows", func() io.Reader {
		var rows bytes.Buffer
		for n := 0; n < 50000; n++ {
			fmt.Fprintf(&rows, "%d\trow %d\n", n, n)
		}
		return &rows
	})
	why := run(db, "CREATE OR REPLACE TABLE load_go (a INT, b VARCHAR(20))",
		"LOAD DATA LOCAL INFILE 'Reader::rows' INTO TABLE load_go")
	if why != nil {
		return why
	}
	var count, sum int
	if why := db.QueryRow("SELECT COUNT(*), SUM(a) FROM load_go").Scan(&count, &sum); why != nil {
		return why
	}
	return equal([]int{count, sum}, []int{50000, 1249975000})
}

func multiResults(db *sql.DB) error {
	rows, why := db.Query("SELECT 1; SELECT 'two'; SELECT 5")
	if why != nil {
		return why
	}
	defer rows.Close()
	var seen []string
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			var value string
			if why := rows.Scan(&value); why != nil {
				return why
			}
			seen = append(seen, value)
		}
	}
	return equal(seen, []string{"1", "two", "5"})
}

// A context that ends early makes the driver close its connection; the next query gets a new one.
func cancelled(db *sql.DB) error {
	early, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	if _, why := db.ExecContext(early, "SELECT SLEEP(30)"); !errors.Is(why, context.DeadlineExceeded) {
		return fmt.Errorf("the wait ended in %v", why)
	}
	return run(db, "DO 1")
}

func secure() error {
	ca, why := os.ReadFile(os.Getenv("CA"))
	if why != nil {
		return why
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("no certificate in the CA file")
	}
	if why := mysql.RegisterTLSConfig("selkie", &tls.Config{RootCAs: roots, ServerName: os.Getenv("HOST")}); why != nil {
		return why
	}
	config := settings()
	config.TLSConfig = "selkie"
	db := open(config)
	defer db.Close()
	var seven int
	if why := db.QueryRow("SELECT 7").Scan(&seven); why != nil {
		return why
	}
	return equal(seven, 7)
}

func main() {
	db := open(settings())
	if why := db.Ping(); why != nil {
		fmt.Println("not ok login:", why)
		os.Exit(1)
	}
	fmt.Println("connected")
	bufio.NewReader(os.Stdin).ReadString('\n')
	check("wake_by_first_query", func() error {
		var seen int
		if why := db.QueryRow("SELECT 41 + 1").Scan(&seen); why != nil {
			return why
		}
		return equal(seen, 42)
	})
	check("types", func() error { return types(db) })
	check("prepared_statement", func() error { return prepared(db) })
	check("transaction", func() error { return transaction(db) })
	check("errors", func() error { return errorCodes(db) })
	check("blob_20mb", func() error { return blob(db) })
	check("load_data_local", func() error { return loadDataLocal(db) })
	check("multi_results", func() error { return multiResults(db) })
	check("cancelled", func() error { return cancelled(db) })
	if os.Getenv("CA") != "" {
		check("tls", secure)
	}
	db.Close()
	if failed {
		os.Exit(1)
	}
}
