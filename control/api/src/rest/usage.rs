//! What projects used, and what that costs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What lies within one row of a usage report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// An hour, UTC.
    #[default]
    Hour,
    /// A day, UTC.
    Day,
    /// All of it.
    Total,
}

/// What a project used in some time. Statements are those that a database answered; a text of several counts as one, by
/// its first word.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsagePeriod {
    /// RFC 3339.
    pub from: String,
    /// RFC 3339; what follows is not in it.
    pub to: String,
    /// Seconds that the compute ran, from `ready` to its end.
    pub compute_seconds: f64,
    /// The same times the size that it was started with.
    pub cu_seconds: f64,
    /// All statements.
    pub statements: i64,
    /// SELECT, WITH, VALUES.
    pub selects: i64,
    /// INSERT, REPLACE, LOAD.
    pub inserts: i64,
    /// UPDATE.
    pub updates: i64,
    /// DELETE.
    pub deletes: i64,
    /// CREATE, ALTER, DROP, RENAME, TRUNCATE.
    pub ddl: i64,
    /// Everything else.
    pub others: i64,
    /// Rows sent to clients.
    pub rows_out: i64,
    /// Bytes sent from databases to clients.
    pub bytes_out: i64,
    /// Bytes sent from clients to databases.
    pub bytes_in: i64,
    /// Logins that succeeded.
    pub logins: i64,
    /// Logins that were refused.
    pub logins_failed: i64,
    /// Sum over sessions of the seconds that they held a database connection.
    pub attached_seconds: f64,
    /// Wakes that gateways asked for.
    pub wakes: i64,
    /// Those of COM_QUERY.
    pub wakes_query: i64,
    /// Those of COM_STMT_PREPARE.
    pub wakes_prepare: i64,
    /// Those of COM_STMT_EXECUTE.
    pub wakes_execute: i64,
    /// Those of any other command.
    pub wakes_other: i64,
}

/// GET /projects/{id}/usage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The project.
    pub project: String,
    /// When it was made, which tells it from others of that name. RFC 3339.
    pub created_at: String,
    /// When it was gone. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Its size now, or the last that it had; `cu_seconds` are reckoned by the size at each start.
    pub size_cu: f64,
    /// What a period is.
    pub granularity: Granularity,
    /// In order, also those in which nothing was used.
    pub periods: Vec<UsagePeriod>,
}

/// A line of a statement. Numbers are decimal texts, exact to their last digit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementLine {
    /// `compute`, `statements` or `bytes_out`.
    pub item: String,
    /// How many units, to the millionth.
    pub quantity: String,
    /// `CU hour`, `million` or `GiB`.
    pub unit: String,
    /// Of a unit; absent where none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// Price times quantity, rounded half up once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
}

/// GET /projects/{id}/usage/statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statement {
    /// The project.
    pub project: String,
    /// When it was made, which tells it from others of that name. RFC 3339.
    pub created_at: String,
    /// When it was gone. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// As 2026-11.
    pub month: String,
    /// RFC 3339.
    pub from: String,
    /// RFC 3339; what follows is not in it.
    pub to: String,
    /// The month is not over.
    pub open: bool,
    /// When this was reckoned. RFC 3339.
    pub as_of: String,
    /// Of prices and amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// What was used.
    pub lines: Vec<StatementLine>,
    /// The sum of the amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
}
