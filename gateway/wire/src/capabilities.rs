//! Capability flags: what client and server agree to speak.
//!
//! MySQL's 32 bits and MariaDB's 32 more in one number. MariaDB's count only where CLIENT_MYSQL (bit 0) is clear. Bits
//! without a name here are kept as they are.

use std::ops::{BitAnd, BitOr, Not};

/// A set of capability flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(pub u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            const NAMES: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

flags! {
    /// CLIENT_MYSQL; called LONG_PASSWORD by MySQL. Set: the other side is no MariaDB, its extended flags do not count.
    CLIENT_MYSQL = 0;
    /// Affected rows are found rows.
    FOUND_ROWS = 1;
    /// Long column flags; always on.
    LONG_FLAG = 2;
    /// The login packet may name a database.
    CONNECT_WITH_DB = 3;
    /// `db.table.column` is refused.
    NO_SCHEMA = 4;
    /// zlib compression.
    COMPRESS = 5;
    /// Of no effect.
    ODBC = 6;
    /// The client answers LOAD DATA LOCAL.
    LOCAL_FILES = 7;
    /// Spaces before `(` are ignored.
    IGNORE_SPACE = 8;
    /// The protocol of MySQL 4.1; everything here needs it.
    PROTOCOL_41 = 9;
    /// `interactive_timeout` counts instead of `wait_timeout`.
    INTERACTIVE = 10;
    /// TLS.
    SSL = 11;
    /// Of the client library only.
    IGNORE_SIGPIPE = 12;
    /// OK packets carry status flags.
    TRANSACTIONS = 13;
    /// Was PROTOCOL_41 once.
    RESERVED = 14;
    /// 20-byte nonces.
    SECURE_CONNECTION = 15;
    /// Several statements in one COM_QUERY.
    MULTI_STATEMENTS = 16;
    /// Several results to one COM_QUERY.
    MULTI_RESULTS = 17;
    /// Several results to one COM_STMT_EXECUTE.
    PS_MULTI_RESULTS = 18;
    /// Authentication plugins by name.
    PLUGIN_AUTH = 19;
    /// Connection attributes.
    CONNECT_ATTRS = 20;
    /// The length of the login packet's auth response is length-encoded.
    PLUGIN_AUTH_LENENC_DATA = 21;
    /// The client understands a login that may only change its password.
    CAN_HANDLE_EXPIRED_PASSWORDS = 22;
    /// OK packets carry changes of session state.
    SESSION_TRACK = 23;
    /// No EOF packets: an OK with header 0xFE ends a result set.
    DEPRECATE_EOF = 24;
    /// MySQL: result sets may come without metadata.
    OPTIONAL_RESULTSET_METADATA = 25;
    /// MySQL: zstd compression.
    ZSTD_COMPRESSION = 26;
    /// MySQL: query attributes.
    QUERY_ATTRIBUTES = 27;
    /// MySQL: third authentication factor.
    MULTI_FACTOR_AUTH = 28;
    /// Of the client library only.
    SSL_VERIFY_SERVER_CERT = 30;
    /// Of the client library only.
    REMEMBER_OPTIONS = 31;
    /// MariaDB: progress packets.
    MARIADB_PROGRESS = 32;
    /// MariaDB: COM_MULTI, never released.
    MARIADB_COM_MULTI = 33;
    /// MariaDB: COM_STMT_BULK_EXECUTE.
    MARIADB_STMT_BULK_OPERATIONS = 34;
    /// MariaDB: column definitions carry extended type names.
    MARIADB_EXTENDED_METADATA = 35;
    /// MariaDB: column definitions are left out when the client has them.
    MARIADB_CACHE_METADATA = 36;
    /// MariaDB: bulk execution answers with a result per row.
    MARIADB_BULK_UNIT_RESULTS = 37;
}

impl Capabilities {
    /// None at all.
    pub const EMPTY: Self = Self(0);

    /// All flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// No flag is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// MySQL's 32 bits.
    pub(crate) fn low(self) -> u32 {
        u32::try_from(self.0 & 0xffff_ffff).unwrap_or(0)
    }

    /// MariaDB's 32 bits.
    pub(crate) fn extended(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(0)
    }

    pub(crate) fn of(low: u32, extended: u32) -> Self {
        let counts = low & 1 == 0;
        Self(u64::from(low) | if counts { u64::from(extended) << 32 } else { 0 })
    }
}

impl BitAnd for Capabilities {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl Not for Capabilities {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = *self;
        let mut list = f.debug_list();
        for (name, flag) in Self::NAMES.iter().filter(|(_, flag)| self.contains(*flag)) {
            list.entry(&format_args!("{name}"));
            rest = rest & !*flag;
        }
        if !rest.is_empty() {
            list.entry(&format_args!("{:#x}", rest.0));
        }
        list.finish()
    }
}
