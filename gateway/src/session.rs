//! What must follow a client from one compute connection to the next. Pure: no I/O, no clock.
//!
//! In: the login, and what the client set while no compute was needed. Out: the login packet for a compute and the
//! statements to replay there before the client's own first command. This is where parking will grow.

use mysql_wire::capabilities::Capabilities;
use mysql_wire::command::Command;
use mysql_wire::frame;
use mysql_wire::status::StatusFlags;

/// Settings kept for replay; drivers send a handful. A client that sends more is given a compute instead.
const SETTINGS_MAX: usize = 32;

/// Computes run with the session tracker told to report everything (the gateway's own need). Clients are given back
/// MariaDB's defaults: those that asked for session tracking hear what a direct connection would tell them, and to the
/// others the flag for a report they cannot have (it stands in EOF packets too) does not show.
const TRACKER_DEFAULTS: &str = "SET SESSION session_track_schema=ON, session_track_state_change=OFF, \
     session_track_transaction_info='OFF', session_track_system_variables=\
     'autocommit,character_set_client,character_set_connection,character_set_results,time_zone'";

/// Who the session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) database: Option<String>,
    pub(crate) collation: u8,
    /// Connection attributes as they came, without the length in front.
    pub(crate) attributes: Vec<u8>,
    pub(crate) program_name: String,
}

/// The character set in which results and their metadata are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResultsCharset {
    /// The number that column definitions carry.
    pub(crate) collation: u16,
    /// Bytes of its longest character; column lengths are counted in it.
    pub(crate) bytes_max: u32,
}

impl ResultsCharset {
    pub(crate) const UTF8MB4: Self = Self {
        collation: 45,
        bytes_max: 4,
    };

    /// As a login with this collation sets it. None: one whose answers have not been recorded.
    fn of_login(collation: u8) -> Option<Self> {
        let bytes_max = match collation {
            // An id that MariaDB does not know (MySQL 8's utf8mb4_0900_ai_ci) means the server's default.
            255 => return Some(Self::UTF8MB4),
            45 | 46 | 224..=247 => 4,
            33 | 83 | 192..=215 => 3,
            5 | 8 | 11 | 15 | 31 | 47..=49 | 63 | 65 | 94 => 1,
            _ => return None,
        };
        Some(Self {
            collation: collation.into(),
            bytes_max,
        })
    }
}

/// A client's session.
#[derive(Debug)]
pub(crate) struct Session {
    /// What the client and we agreed on; the same on both legs.
    pub(crate) capabilities: Capabilities,
    pub(crate) max_packet_bytes: u32,
    pub(crate) identity: Identity,
    settings: Vec<String>,
    multi_statements: Option<bool>,
    autocommit: bool,
    results: Option<ResultsCharset>,
}

/// What a setting changes of what the gateway itself answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SettingEffect {
    pub(crate) autocommit: Option<bool>,
    /// Some(None): a character set whose answers have not been recorded.
    pub(crate) results: Option<Option<ResultsCharset>>,
}

impl Session {
    pub(crate) fn new(capabilities: Capabilities, max_packet_bytes: u32, identity: Identity) -> Self {
        let results = ResultsCharset::of_login(identity.collation);
        Self {
            capabilities,
            max_packet_bytes,
            identity,
            settings: Vec::new(),
            multi_statements: None,
            autocommit: true,
            results,
        }
    }

    /// What OK packets of ours carry.
    pub(crate) fn status(&self) -> StatusFlags {
        if self.autocommit {
            StatusFlags::AUTOCOMMIT
        } else {
            StatusFlags::EMPTY
        }
    }

    pub(crate) fn results_charset(&self) -> Option<ResultsCharset> {
        self.results
    }

    pub(crate) fn has_settings(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Remembers a setting for replay. False: there are too many; the statement must go to a compute.
    #[must_use]
    pub(crate) fn remember(&mut self, statement: &str, effect: SettingEffect) -> bool {
        // Said again, it counts from here on: settings overwrite each other in order.
        self.settings.retain(|known| known != statement);
        if self.settings.len() >= SETTINGS_MAX {
            return false;
        }
        self.settings.push(statement.to_owned());
        self.autocommit = effect.autocommit.unwrap_or(self.autocommit);
        self.results = effect.results.unwrap_or(self.results);
        true
    }

    /// COM_SET_OPTION.
    pub(crate) fn set_multi_statements(&mut self, on: bool) {
        self.multi_statements = Some(on);
    }

    /// COM_RESET_CONNECTION: back to what the login gave, but for the current database, which MariaDB keeps.
    pub(crate) fn reset(&mut self) {
        self.settings.clear();
        self.multi_statements = None;
        self.autocommit = true;
        self.results = ResultsCharset::of_login(self.identity.collation);
    }

    /// COM_CHANGE_USER: another identity, nothing kept. Returns who it was before.
    pub(crate) fn change_identity(&mut self, identity: Identity) -> Identity {
        let before = std::mem::replace(&mut self.identity, identity);
        self.reset();
        before
    }

    /// Commands to send right after the login to a compute, whole frames, and how many answers they will have.
    pub(crate) fn replay(&self) -> Replay {
        let mut replay = Replay::default();
        replay.query(TRACKER_DEFAULTS);
        for statement in &self.settings {
            replay.query(statement);
        }
        if let Some(on) = self.multi_statements {
            replay.command(Command::SetOption, &[u8::from(!on), 0]);
        }
        replay
    }

    /// What a reset of the compute connection undoes of the gateway's own doing.
    pub(crate) fn replay_after_reset(&self) -> Replay {
        let mut replay = Replay::default();
        replay.query(TRACKER_DEFAULTS);
        replay
    }
}

/// Commands that the gateway sends on its own, whose answers the client never sees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) frames: Vec<u8>,
    pub(crate) commands: Vec<Command>,
}

impl Replay {
    fn query(&mut self, statement: &str) {
        self.command(Command::Query, statement.as_bytes());
    }

    fn command(&mut self, command: Command, argument: &[u8]) {
        let payload = [&[command.code()], argument].concat();
        frame::write_packet(&mut self.frames, &mut 0, &payload);
        self.commands.push(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(capabilities: Capabilities) -> Session {
        let identity = Identity {
            user: "u".into(),
            database: Some("demo".into()),
            collation: 45,
            attributes: Vec::new(),
            program_name: String::new(),
        };
        Session::new(capabilities, 1 << 24, identity)
    }

    fn effect(autocommit: bool) -> SettingEffect {
        SettingEffect {
            autocommit: Some(autocommit),
            ..Default::default()
        }
    }

    #[test]
    fn settings_are_replayed_in_order_and_the_last_word_counts() {
        let mut session = session(Capabilities::PROTOCOL_41);
        assert!(session.remember("SET autocommit=0", effect(false)));
        assert!(session.remember("SET NAMES latin1", SettingEffect::default()));
        assert!(session.remember("SET autocommit=1", effect(true)));
        assert!(session.remember("SET autocommit=0", effect(false)));
        assert_eq!(session.status(), StatusFlags::EMPTY);
        let replay = session.replay();
        assert_eq!(replay.commands, [Command::Query; 4]);
        let text = String::from_utf8_lossy(&replay.frames).into_owned();
        let at = |statement: &str| text.find(statement).unwrap();
        assert!(at("SET NAMES latin1") < at("SET autocommit=1"));
        assert!(at("SET autocommit=1") < at("SET autocommit=0"));
    }

    #[test]
    fn settings_are_bounded() {
        let mut session = session(Capabilities::PROTOCOL_41);
        for n in 0..SETTINGS_MAX {
            assert!(session.remember(&format!("SET wait_timeout={n}"), SettingEffect::default()));
        }
        assert!(!session.remember("SET wait_timeout=99", SettingEffect::default()));
    }

    #[test]
    fn a_reset_forgets_settings_and_keeps_the_database() {
        let mut session = session(Capabilities::PROTOCOL_41);
        assert!(session.remember("SET autocommit=0", effect(false)));
        session.set_multi_statements(true);
        session.reset();
        assert_eq!(session.replay(), session.replay_after_reset());
        assert_eq!(session.status(), StatusFlags::AUTOCOMMIT);
        assert_eq!(session.identity.database.as_deref(), Some("demo"));
    }

    #[test]
    fn clients_hear_what_a_direct_connection_would_tell() {
        let replay = session(Capabilities::PROTOCOL_41).replay();
        assert_eq!(replay.commands, [Command::Query]);
        assert!(String::from_utf8_lossy(&replay.frames).contains("session_track_state_change=OFF"));
    }
}
