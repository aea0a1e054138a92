//! A client that inserts rows over a way that fails it, tries again on a new connection, and knows what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::Endpoint;
use harness::client::{run, value};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::time::{Instant, sleep, timeout};

/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

pub(super) struct Writer {
    number: u32,
    endpoint: Endpoint,
    /// A client of a silent connection knows of it by its own time limit alone.
    patience: Duration,
    conn: Option<Conn>,
    /// How often it had to connect.
    pub(super) connections: u32,
    sent: u32,
    acknowledged: BTreeSet<u32>,
    /// Codes of the server's errors, with an example.
    pub(super) told: BTreeMap<u16, String>,
}

impl Writer {
    /// The table of all writers.
    pub(super) async fn make_table(endpoint: &Endpoint) {
        let mut conn = endpoint.connect().await;
        run(&mut conn, "CREATE TABLE t (client INT, n INT)").await;
    }

    pub(super) fn new(number: u32, endpoint: Endpoint, patience: Duration) -> Self {
        Self {
            number,
            endpoint,
            patience,
            conn: None,
            connections: 0,
            sent: 0,
            acknowledged: BTreeSet::new(),
            told: BTreeMap::new(),
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Rows that were sent, once each.
    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    /// Rows of which the server said that they are there.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub(super) async fn writes_for(mut self, time: Duration) -> Self {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let done = timeout(self.patience, self.writes_once()).await;
            if !matches!(done, Ok(Ok(()))) {
                // What was under way may still be done.
                self.conn = None;
                sleep(AGAIN_AFTER).await;
            }
        }
        self.conn = None;
        self
    }

    async fn writes_once(&mut self) -> Result<(), ()> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                self.connections += 1;
                let connected = Conn::new(self.endpoint.opts()).await;
                connected.map_err(|error| self.hears(error))?
            }
        };
        let (client, n) = (self.number, self.sent + 1);
        let whose = format!("SELECT 'for {client}, {n}'");
        let seen: Option<String> = conn.query_first(&whose).await.map_err(|error| self.hears(error))?;
        assert_eq!(seen, Some(format!("for {client}, {n}")), "another's answer");
        self.sent = n;
        let insert = format!("INSERT INTO t VALUES ({client}, {n})");
        conn.query_drop(&insert).await.map_err(|error| self.hears(error))?;
        self.acknowledged.insert(n);
        self.conn = Some(conn);
        Ok(())
    }

    fn hears(&mut self, error: Error) {
        if let Error::Server(told) = error {
            self.told.entry(told.code).or_insert(told.message);
        }
    }

    /// Fails where the table is not what was told, seen over a way that works.
    pub(super) async fn is_right(&self, endpoint: &Endpoint) {
        let mut conn = endpoint.connect().await;
        run(&mut conn, "SET group_concat_max_len = 100000000").await;
        let client = self.number;
        let sql = format!("SELECT COALESCE(GROUP_CONCAT(n ORDER BY n), '') FROM t WHERE client = {client}");
        let there = value(&mut conn, &sql).await.unwrap_or_default();
        let rows: Vec<u32> = there.split(',').filter_map(|n| n.parse().ok()).collect();
        let distinct: BTreeSet<u32> = rows.iter().copied().collect();
        assert_eq!(rows.len(), distinct.len(), "rows of client {client} twice: {there}");
        let lost: Vec<_> = self.acknowledged.difference(&distinct).collect();
        assert!(lost.is_empty(), "client {client}: acknowledged and lost: {lost:?}");
        assert!(
            distinct.iter().all(|n| *n <= self.sent),
            "client {client}: never sent: {there}"
        );
        assert!(
            !self.acknowledged.is_empty(),
            "client {client}: nothing got through, which tests nothing"
        );
    }
}
