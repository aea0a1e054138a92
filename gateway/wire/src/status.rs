//! Status flags of OK and EOF packets.

use std::ops::{BitAnd, BitOr, Not};

/// A set of status flags; unknown bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StatusFlags(pub u16);

impl StatusFlags {
    /// None at all.
    pub const EMPTY: Self = Self(0);
    /// A transaction is open.
    pub const IN_TRANS: Self = Self(0x0001);
    /// autocommit is on.
    pub const AUTOCOMMIT: Self = Self(0x0002);
    /// Another result follows.
    pub const MORE_RESULTS: Self = Self(0x0008);
    /// No good index was used.
    pub const NO_GOOD_INDEX_USED: Self = Self(0x0010);
    /// No index was used.
    pub const NO_INDEX_USED: Self = Self(0x0020);
    /// The statement opened a cursor: rows come by COM_STMT_FETCH.
    pub const CURSOR_EXISTS: Self = Self(0x0040);
    /// The cursor has no more rows.
    pub const LAST_ROW_SENT: Self = Self(0x0080);
    /// A database was dropped.
    pub const DB_DROPPED: Self = Self(0x0100);
    /// sql_mode has NO_BACKSLASH_ESCAPES.
    pub const NO_BACKSLASH_ESCAPES: Self = Self(0x0200);
    /// The prepared statement's metadata is not what PREPARE said.
    pub const METADATA_CHANGED: Self = Self(0x0400);
    /// The query was slow.
    pub const QUERY_WAS_SLOW: Self = Self(0x0800);
    /// This result has a procedure's OUT parameters.
    pub const PS_OUT_PARAMS: Self = Self(0x1000);
    /// The transaction is read-only.
    pub const IN_TRANS_READONLY: Self = Self(0x2000);
    /// A block of session state changes follows.
    pub const SESSION_STATE_CHANGED: Self = Self(0x4000);
    /// sql_mode has ANSI_QUOTES.
    pub const ANSI_QUOTES: Self = Self(0x8000);

    /// All flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitAnd for StatusFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for StatusFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for StatusFlags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}
