//! What a client with session tracking hears of. Computes report everything to the gateway, which passes on what the client
//! would hear from a direct connection: by default, and after it has set up the tracker in one of the ways drivers do.

use mysql_wire::session_track::{Change, changes};

/// Variables that a client can ask to hear of without its tracker becoming the compute's; the first five are MariaDB's own
/// default. Their names are as MariaDB 10.11 reports them, and it knows all of them.
const HEARABLE: [&str; 6] = [
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "time_zone",
    "tx_isolation",
];
const BY_DEFAULT: Variables = Variables(0b01_1111);

/// Some of [`HEARABLE`], a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variables(u8);

impl Variables {
    /// The value of session_track_system_variables: names with commas between them. None: it names others.
    pub(crate) fn read(list: &str) -> Option<Self> {
        if list.is_empty() {
            return Some(Self(0));
        }
        let mut names = list.split(',');
        names.try_fold(Self(0), |read, name| Some(Self(read.0 | Self::bit(name)?)))
    }

    fn bit(name: &str) -> Option<u8> {
        let at = HEARABLE.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        Some(1 << at)
    }

    fn has(self, name: &str) -> bool {
        Self::bit(name).is_some_and(|bit| self.0 & bit != 0)
    }
}

/// What a SET of the tracker changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// session_track_schema.
    pub(crate) schema: Option<bool>,
    /// session_track_system_variables.
    pub(crate) variables: Option<Variables>,
}

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hears {
    schema: bool,
    variables: Variables,
}

impl Default for Hears {
    /// MariaDB's own.
    fn default() -> Self {
        Self {
            schema: true,
            variables: BY_DEFAULT,
        }
    }
}

impl Hears {
    pub(crate) fn apply(&mut self, asked: Asked) {
        self.schema = asked.schema.unwrap_or(self.schema);
        self.variables = asked.variables.unwrap_or(self.variables);
    }

    pub(crate) fn of_variable(self, name: &str) -> bool {
        self.variables.has(name)
    }

    /// What is left of a report.
    pub(super) fn of_report(self, block: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        for change in changes(block).flatten() {
            let hears = match change {
                Change::SystemVariable { name, .. } => {
                    std::str::from_utf8(name).is_ok_and(|name| self.of_variable(name))
                }
                Change::Schema(_) => self.schema,
                _ => false,
            };
            if hears {
                change.encode(&mut kept);
            }
        }
        kept
    }

    /// The statement that sets up a compute's tracker like this.
    pub(super) fn statement(self) -> String {
        let names: Vec<_> = HEARABLE.into_iter().filter(|name| self.of_variable(name)).collect();
        format!(
            "SET SESSION session_track_schema={}, session_track_state_change=OFF, session_track_transaction_info='OFF', \
             session_track_system_variables='{}'",
            if self.schema { "ON" } else { "OFF" },
            names.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_known_names_or_none() {
        assert_eq!(Variables::read(""), Some(Variables(0)));
        assert_eq!(Variables::read("Autocommit,tx_isolation"), Some(Variables(0b10_0001)));
        let default = "autocommit,character_set_client,character_set_connection,character_set_results,time_zone";
        assert_eq!(Variables::read(default), Some(BY_DEFAULT));
        for other in ["*", "sql_mode", "autocommit,", ",", "autocommit time_zone", "no_such"] {
            assert_eq!(Variables::read(other), None, "{other}");
        }
    }

    #[test]
    fn a_report_is_cut_to_what_was_asked_for() {
        let mut block = Vec::new();
        for (name, value) in [
            (&b"tx_isolation"[..], &b"READ-COMMITTED"[..]),
            (b"time_zone", b"+01:00"),
        ] {
            Change::SystemVariable { name, value }.encode(&mut block);
        }
        Change::Schema(b"demo").encode(&mut block);
        let mut hears = Hears::default();
        let heard = |hears: Hears| {
            let block = hears.of_report(&block);
            let heard = changes(&block).map(|change| match change.unwrap() {
                Change::SystemVariable { name, .. } => String::from_utf8(name.to_vec()).unwrap(),
                other => format!("{other:?}"),
            });
            heard.collect::<Vec<_>>()
        };
        let schema = format!("{:?}", Change::Schema(b"demo"));
        assert_eq!(heard(hears), ["time_zone", &schema]);
        hears.apply(Asked {
            schema: None,
            variables: Variables::read("autocommit,tx_isolation"),
        });
        assert_eq!(heard(hears), ["tx_isolation", &schema]);
        hears.apply(Asked {
            schema: Some(false),
            variables: None,
        });
        assert_eq!(heard(hears), ["tx_isolation"]);
        assert!(
            hears
                .statement()
                .ends_with("session_track_system_variables='autocommit,tx_isolation'")
        );
        assert!(hears.statement().contains("session_track_schema=OFF"));
    }
}
