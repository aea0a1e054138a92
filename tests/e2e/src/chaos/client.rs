//! Clients that read, write and sleep until they are told to stop, and know what they were told was done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use harness::Endpoint;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::witness::Witness;

/// Longer than a database may take to start, which is the longest that a gateway lets a client wait.
const GUARD: Duration = Duration::from_secs(90);
/// Between two tries to connect while the gateway is away.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Inserts row after row.
    Writes,
    /// Inserts two rows in a transaction with pauses.
    Transacts,
    /// Is connected for seconds without a command; has a setting that must follow it.
    Idles,
    /// Connects and says nothing for seconds.
    IsSilent,
    /// Has a command in flight nearly always.
    Sleeps,
}

/// What must be, may be and must not be in the table.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) written: BTreeSet<u32>,
    pub(super) perhaps: BTreeSet<u32>,
    /// Of transactions that nobody asked to be committed.
    pub(super) undone: BTreeSet<u32>,
}

pub(super) struct Client {
    number: u32,
    role: Role,
    project: String,
    endpoint: Endpoint,
    witness: Arc<Witness>,
    stop: watch::Receiver<bool>,
    random: StdRng,
    conn: Option<Conn>,
    /// When the last command ended well or, before the first, when the connection was asked for.
    quiet_since: Instant,
    in_transaction: bool,
    rows: u32,
    ledger: Ledger,
}

/// The command or the connection failed; the witness knows whether it may have.
#[derive(Debug)]
struct Failed;

impl Client {
    pub(super) fn new(
        number: u32,
        role: Role,
        (project, endpoint): (String, Endpoint),
        seed: u64,
        witness: Arc<Witness>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            number,
            role,
            project,
            endpoint,
            witness,
            stop,
            random: StdRng::seed_from_u64(seed.wrapping_add(u64::from(number))),
            conn: None,
            quiet_since: Instant::now(),
            in_transaction: false,
            rows: 0,
            ledger: Ledger::default(),
        }
    }

    /// Plays its role until it is told to stop; then it must be able to run a statement.
    pub(super) async fn plays(mut self) -> (u32, String, Ledger) {
        while !*self.stop.borrow() {
            // What failed is known to the witness; the client goes on as a program that tries again.
            let _ = match self.role {
                Role::Writes => self.writes().await,
                Role::Transacts => self.transacts().await,
                Role::Idles => self.idles().await,
                Role::IsSilent => self.is_silent().await,
                Role::Sleeps => self.sleeps().await,
            };
        }
        // The connection may have gone with a gateway while it was idle.
        if self.asks("SELECT 41 + 1", "42").await.is_err() && self.asks("SELECT 41 + 1", "42").await.is_err() {
            self.finds("cannot run a statement after all has healed");
        }
        (self.number, self.project, self.ledger)
    }

    async fn writes(&mut self) -> Result<(), Failed> {
        let row = self.row();
        self.ledger.perhaps.insert(row);
        self.runs(&self.insert(row)).await?;
        self.ledger.perhaps.remove(&row);
        self.ledger.written.insert(row);
        self.pauses(0..300).await;
        if self.random.random_bool(0.2) {
            self.reads().await?;
        }
        Ok(())
    }

    /// What was written is seen, at any time.
    async fn reads(&mut self) -> Result<(), Failed> {
        let number = self.number;
        let rows = self
            .runs(&format!("SELECT COUNT(*) FROM t WHERE client = {number}"))
            .await?;
        let rows: usize = rows.and_then(|rows| rows.parse().ok()).unwrap_or(0);
        let Ledger { written, perhaps, .. } = &self.ledger;
        if !(written.len()..=written.len() + perhaps.len()).contains(&rows) {
            self.finds(&format!(
                "sees {rows} rows of {} and perhaps {}",
                written.len(),
                perhaps.len()
            ));
        }
        Ok(())
    }

    async fn transacts(&mut self) -> Result<(), Failed> {
        let rows = [self.row(), self.row()];
        self.ledger.undone.extend(rows);
        self.runs("BEGIN").await?;
        self.in_transaction = true;
        let done = self.inserts_and_commits(rows).await;
        self.in_transaction = false;
        if done.is_err() && self.conn.is_some() {
            self.runs("ROLLBACK").await?;
        }
        self.pauses(0..1000).await;
        done
    }

    async fn inserts_and_commits(&mut self, rows: [u32; 2]) -> Result<(), Failed> {
        for row in rows {
            self.runs(&self.insert(row)).await?;
            self.pauses(0..500).await;
        }
        self.ledger.undone.retain(|row| !rows.contains(row));
        self.ledger.perhaps.extend(rows);
        self.runs("COMMIT").await?;
        self.ledger.perhaps.retain(|row| !rows.contains(row));
        self.ledger.written.extend(rows);
        Ok(())
    }

    async fn idles(&mut self) -> Result<(), Failed> {
        if self.conn.is_none()
            && let Err(failed) = self.runs("SET time_zone = '+01:00'").await
        {
            self.conn = None;
            return Err(failed);
        }
        self.pauses(500..8000).await;
        self.asks("SELECT @@time_zone", "+01:00").await
    }

    async fn is_silent(&mut self) -> Result<(), Failed> {
        self.conn = None;
        self.connected().await?;
        self.pauses(500..8000).await;
        self.asks("SELECT 41 + 1", "42").await
    }

    async fn sleeps(&mut self) -> Result<(), Failed> {
        self.asks("SELECT SLEEP(2)", "0").await?;
        self.pauses(0..2000).await;
        Ok(())
    }

    fn row(&mut self) -> u32 {
        self.rows += 1;
        self.rows
    }

    fn insert(&self, row: u32) -> String {
        format!("INSERT INTO t (client, n) VALUES ({}, {row})", self.number)
    }

    /// For a time in milliseconds, or until it is told to stop.
    async fn pauses(&mut self, ms: std::ops::Range<u64>) {
        let pause = Duration::from_millis(self.random.random_range(ms));
        let _ = timeout(pause, self.stop.wait_for(|stop| *stop)).await;
    }

    async fn asks(&mut self, sql: &str, right: &str) -> Result<(), Failed> {
        let answer = self.runs(sql).await?;
        if answer.as_deref() != Some(right) {
            self.finds(&format!("{sql}: {answer:?}"));
        }
        Ok(())
    }

    /// Runs a command; its first value.
    async fn runs(&mut self, sql: &str) -> Result<Option<String>, Failed> {
        if !self.in_transaction {
            self.connected().await?;
        }
        let Some(mut conn) = self.conn.take() else {
            return Err(Failed);
        };
        let begun = Instant::now();
        let answer = timeout(GUARD, conn.query_first::<Option<String>, _>(sql)).await;
        // What a transaction lost while it had no command is told at its next.
        let since = if self.in_transaction { self.quiet_since } else { begun };
        match answer {
            Ok(Ok(value)) => {
                self.quiet_since = Instant::now();
                self.conn = Some(conn);
                return Ok(value.flatten());
            }
            Ok(Err(Error::Server(told))) => {
                if !self.witness.excuses(&self.project, since, &told.message) {
                    self.finds(&format!("{sql}: {told}"));
                }
                self.quiet_since = Instant::now();
                self.conn = Some(conn);
            }
            Ok(Err(lost)) if self.witness.gateway_died(self.quiet_since) => drop(lost),
            Ok(Err(lost)) => self.finds(&format!("{sql}: lost its connection: {lost}")),
            Err(_) => self.finds(&format!("{sql}: no answer within {GUARD:?}")),
        }
        Err(Failed)
    }

    /// Connects where it is not; tries again while the gateway is away.
    async fn connected(&mut self) -> Result<(), Failed> {
        let begun = Instant::now();
        while self.conn.is_none() {
            let tried = Instant::now();
            self.quiet_since = tried;
            match timeout(GUARD, Conn::new(self.endpoint.opts())).await {
                Ok(Ok(conn)) => self.conn = Some(conn),
                Ok(Err(why)) => {
                    // A right password is never wrong, whatever died.
                    let denied = matches!(&why, Error::Server(told) if told.code == 1045);
                    if denied || !self.witness.gateway_died(tried) {
                        self.finds(&format!("login: {why}"));
                        return Err(Failed);
                    }
                    sleep(CONNECT_AGAIN).await;
                }
                Err(_) => {
                    self.finds(&format!("login: no answer within {GUARD:?}"));
                    return Err(Failed);
                }
            }
            if begun.elapsed() > GUARD {
                self.finds(&format!("no login within {GUARD:?}"));
                return Err(Failed);
            }
        }
        Ok(())
    }

    fn finds(&self, what: &str) {
        let Self {
            number, role, project, ..
        } = self;
        self.witness
            .finds(format!("client {number} of {project}, who {role:?}: {what}"));
    }
}
