//! What must follow a client from one compute connection to the next. Pure: no I/O, no clock.
//!
//! In: the login, what the client set while no compute was needed, what computes reported ([`tracked`]), what an
//! inventory read before a park ([`inventory`]), the statements the client prepared ([`statements`]). Out: the login
//! packet for a compute and the statements to replay there before the client's own first command. [`life`] says when a
//! session may leave its connection.

use std::sync::Arc;
use std::time::Duration;

use mysql_wire::capabilities::Capabilities;
use mysql_wire::command::Command;
use mysql_wire::frame;
use mysql_wire::login::{attributes, encode_attributes};
use mysql_wire::ok::OkPacket;
use mysql_wire::status::StatusFlags;

use crate::error::Told;
use crate::quota::Quota;
use crate::route::Server;
use inventory::Scalars;
use life::Pin;
use previous::Previous;
use shelf::{Kept, Shelf};
use statements::{Modes, Statements};
use tracked::Tracked;

pub(crate) mod hears;
pub(crate) mod inventory;
pub(crate) mod life;
pub(crate) mod previous;
pub(crate) mod shelf;
pub(crate) mod statements;
pub(crate) mod tracked;

/// Settings kept for replay; drivers send a handful. A client that sends more is given a compute instead.
const SETTINGS_MAX: usize = 32;

/// Connection attributes that are kept for computes. MariaDB itself keeps 512 bytes of them unless it is told otherwise, where it
/// keeps any; a client may send 128 KiB, and stay.
const ATTRIBUTES_BYTES_MAX: usize = 4096;

/// The variable that makes the end of every transaction the end of the connection, and its value then.
const COMPLETION_TYPE: &str = "completion_type";
const RELEASE: &str = "RELEASE";

/// MariaDB's own default.
const WAIT_TIMEOUT: Duration = Duration::from_secs(28_800);

/// Status flags that belong to the session; the others are of one statement.
const KEPT_STATUS: StatusFlags = StatusFlags(
    StatusFlags::AUTOCOMMIT.0
        | StatusFlags::IN_TRANS.0
        | StatusFlags::IN_TRANS_READONLY.0
        | StatusFlags::ANSI_QUOTES.0
        | StatusFlags::NO_BACKSLASH_ESCAPES.0,
);

/// Who the session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) database: Option<String>,
    pub(crate) collation: u8,
    /// Connection attributes as they came, without the length in front; as many as are kept ([`kept_attributes`]).
    pub(crate) attributes: Vec<u8>,
    pub(crate) program_name: String,
}

/// Of a client's connection attributes those that computes are told of: the first ones that fit.
pub(crate) fn kept_attributes(sent: &[u8]) -> Vec<u8> {
    if sent.len() <= ATTRIBUTES_BYTES_MAX {
        return sent.to_vec();
    }
    let mut room = ATTRIBUTES_BYTES_MAX;
    let fitting = attributes(sent).filter(|(key, value)| {
        // The length of a text that fits takes three bytes at most.
        let left = room.checked_sub(key.len() + value.len() + 6);
        room = left.unwrap_or(room);
        left.is_some()
    });
    encode_attributes(fitting)
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

    /// As `character_set_results` says. None: one whose answers have not been recorded.
    fn named(charset: &str) -> Option<Self> {
        let (collation, bytes_max) = match charset {
            "utf8mb4" => (45, 4),
            "utf8mb3" => (33, 3),
            "latin1" => (8, 1),
            "ascii" => (11, 1),
            "binary" => (63, 1),
            _ => return None,
        };
        Some(Self { collation, bytes_max })
    }
}

/// The role a session acts in; None: none, not even a default one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Role(Option<String>);

impl Role {
    fn set(&self) -> String {
        match &self.0 {
            // Quoted as an identifier, which holds under every sql_mode.
            Some(name) => format!("SET ROLE `{}`", name.replace('`', "``")),
            None => "SET ROLE NONE".into(),
        }
    }
}

/// A client's session.
#[derive(Debug)]
pub(crate) struct Session {
    /// What the client and we agreed on.
    pub(crate) capabilities: Capabilities,
    pub(crate) max_packet_bytes: u32,
    /// Its database is the current one.
    pub(crate) identity: Identity,
    pub(crate) tracked: Tracked,
    pub(crate) statements: Statements,
    /// What of the rest has no fixed size, on the shelf of its project.
    kept: Kept,
    /// Made while there was no compute, since the last inventory.
    settings: Vec<String>,
    multi_statements: Option<bool>,
    /// Who knows the client's last statement.
    pub(crate) previous: Previous,
    /// It left warnings or an error.
    left_conditions: bool,
    /// Statements that make a new connection what the last inventory found, or what is known since a compute was lost.
    carried: Option<Vec<String>>,
    /// The modes that the last inventory read.
    modes: Option<Arc<Modes>>,
    /// Found by an inventory, and not to go away before a reset.
    lasting_pin: Option<Pin>,
    /// As the last inventory found it; a reset keeps it.
    role: Option<Role>,
    /// A statement since may have set another.
    role_unread: bool,
    /// COMMIT and ROLLBACK close the connection, as the last inventory found it (`completion_type`).
    releases: bool,
    status: StatusFlags,
    results: Option<ResultsCharset>,
    /// Its own `wait_timeout`, where it is known to have one.
    wait_timeout: Option<Duration>,
    /// Where its account had limits when it logged in.
    pub(crate) quota: Option<Quota>,
    /// Of its user, by which it is known from another of its name.
    pub(crate) life: u64,
    /// Its password had expired when it logged in.
    pub(crate) must_change_password: bool,
    /// A statement that may have set another password has run since.
    pub(crate) may_have_changed_password: bool,
}

/// What a login gives a session besides its name.
pub(crate) struct Admitted {
    pub(crate) quota: Option<Quota>,
    pub(crate) must_change_password: bool,
}

/// What a setting changes of what the gateway itself answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SettingEffect {
    pub(crate) autocommit: Option<bool>,
    /// Some(None): a character set whose answers have not been recorded.
    pub(crate) results: Option<Option<ResultsCharset>>,
    pub(crate) wait_timeout: Option<Duration>,
}

impl Session {
    pub(crate) fn new(capabilities: Capabilities, max_packet_bytes: u32, identity: Identity) -> Self {
        let results = ResultsCharset::of_login(identity.collation);
        Self {
            capabilities,
            max_packet_bytes,
            identity,
            tracked: Tracked::default(),
            statements: Statements::default(),
            kept: Kept::default(),
            settings: Vec::new(),
            multi_statements: None,
            previous: Previous::There,
            left_conditions: false,
            carried: None,
            modes: None,
            lasting_pin: None,
            role: None,
            role_unread: false,
            releases: false,
            status: StatusFlags::AUTOCOMMIT,
            results,
            wait_timeout: None,
            quota: None,
            life: 0,
            must_change_password: false,
            may_have_changed_password: false,
        }
    }

    /// The session is one of the project with this shelf from here on; nothing of it is kept yet.
    pub(crate) fn share(&mut self, shelf: &Arc<Shelf>) {
        self.statements.share(shelf);
        self.kept.share(shelf);
    }

    /// Of `texts`, and of what its last statement left.
    fn bytes<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> usize {
        let texts = texts.into_iter().map(|text| size_of::<String>() + text.len());
        texts.sum::<usize>() + self.previous.bytes()
    }

    /// What its account may do as it logs in.
    pub(crate) fn admit(&mut self, admitted: Admitted) {
        let Admitted {
            quota,
            must_change_password,
        } = admitted;
        self.quota = quota;
        self.must_change_password = must_change_password;
        self.may_have_changed_password = false;
    }

    /// Its commands are looked at before they run ([`crate::restraint`]).
    pub(crate) fn is_restrained(&self) -> bool {
        self.quota.is_some() || self.must_change_password
    }

    /// Whether the command at hand is counted already.
    pub(crate) fn counted_ahead(&mut self, is: bool) {
        if let Some(quota) = &mut self.quota {
            quota.counted_ahead = is;
        }
    }

    /// Whether a text may hold several statements.
    pub(crate) fn multi_statements(&self) -> bool {
        self.multi_statements
            .unwrap_or_else(|| self.capabilities.contains(Capabilities::MULTI_STATEMENTS))
    }

    /// What OK packets of ours carry.
    pub(crate) fn status(&self) -> StatusFlags {
        self.status
    }

    pub(crate) fn results_charset(&self) -> Option<ResultsCharset> {
        self.results
    }

    /// As the last answer told.
    pub(crate) fn in_transaction(&self) -> bool {
        let open = StatusFlags::IN_TRANS | StatusFlags::IN_TRANS_READONLY;
        (self.status() & open) != StatusFlags(0)
    }

    /// It was attached before: its present database is one that a compute gave it.
    pub(crate) fn was_attached(&self) -> bool {
        self.carried.is_some()
    }

    /// How long the client may be silent, as MariaDB would have it.
    pub(crate) fn wait_timeout(&self, server: Option<&Server>) -> Duration {
        let variable = match self.capabilities.contains(Capabilities::INTERACTIVE) {
            true => "interactive_timeout",
            false => "wait_timeout",
        };
        let global = || server?.variables.get(variable)?.parse().ok().map(Duration::from_secs);
        self.wait_timeout.or_else(global).unwrap_or(WAIT_TIMEOUT)
    }

    /// The client may have set anything.
    pub(crate) fn has_settings(&self) -> bool {
        !self.settings.is_empty() || self.carried.is_some()
    }

    /// The client may have set this variable: by a setting that was answered here, or at a compute, of which nobody has kept a
    /// record by names.
    pub(crate) fn may_have_set(&self, variable: &str) -> bool {
        let names = |text: &String| text.to_ascii_lowercase().contains(variable);
        self.carried.is_some() || self.settings.iter().any(names)
    }

    /// Another statement has been answered here: it has diagnostics of its own, with this count of rows.
    pub(crate) fn answered_here(&mut self, row_count: &str, found_rows: &str) {
        // Where nothing was asked yet, a compute answers as a new session does.
        match &mut self.previous {
            Previous::There => {}
            Previous::Lost(_) => self.previous.is_over(),
            Previous::Read(known) => {
                known.row_count = row_count.into();
                known.found_rows = found_rows.into();
                known.warning_count = "0".into();
                known.error_count = "0".into();
                known.show_warnings = None;
            }
        }
    }

    /// Remembers a setting for replay. False: there are too many; the statement must go to a compute.
    #[must_use]
    pub(crate) fn remember(&mut self, statement: &str, effect: SettingEffect) -> bool {
        // Said again, it counts from here on: settings overwrite each other in order.
        self.settings.retain(|known| known != statement);
        let statement = statement.to_owned();
        let texts = self.carried.iter().flatten().chain(&self.settings).chain([&statement]);
        let bytes = self.bytes(texts);
        if self.settings.len() >= SETTINGS_MAX || !self.kept.resize(bytes) {
            return false;
        }
        self.settings.push(statement);
        match effect.autocommit {
            Some(true) => self.status = self.status | StatusFlags::AUTOCOMMIT,
            Some(false) => self.status = self.status & !StatusFlags::AUTOCOMMIT,
            None => {}
        }
        self.results = effect.results.unwrap_or(self.results);
        self.wait_timeout = effect.wait_timeout.or(self.wait_timeout);
        self.answered_here("0", "0");
        true
    }

    /// COM_SET_OPTION: like a capability of the login it outlives a reset.
    pub(crate) fn set_multi_statements(&mut self, on: bool) {
        self.multi_statements = Some(on);
    }

    /// COM_RESET_CONNECTION: back to what the login gave, but for the current database, the role and what COM_SET_OPTION said,
    /// which MariaDB keeps.
    pub(crate) fn reset(&mut self) {
        self.tracked = Tracked::default();
        self.statements.close_all();
        self.settings.clear();
        self.previous = Previous::There;
        self.left_conditions = false;
        self.carried = None;
        self.kept.clear();
        self.modes = None;
        self.lasting_pin = None;
        self.releases = false;
        self.status = StatusFlags::AUTOCOMMIT;
        self.results = ResultsCharset::of_login(self.identity.collation);
        self.wait_timeout = None;
    }

    /// COM_CHANGE_USER: another identity, nothing kept. Returns who it was before.
    pub(crate) fn change_identity(&mut self, identity: Identity) -> Identity {
        let before = std::mem::replace(&mut self.identity, identity);
        self.reset();
        self.role = None;
        self.role_unread = false;
        before
    }

    /// A compute's OK says that something changed, which is for one statement only where `of_set_statement`.
    pub(crate) fn reported(&mut self, ok: &OkPacket<'_>, of_set_statement: bool) {
        let schema = match of_set_statement {
            true => self.tracked.report_of_set_statement(ok),
            false => self.tracked.report(ok),
        };
        if let Some(schema) = schema {
            self.identity.database = schema;
        }
    }

    /// What ties the session to its connection, of what is known without asking.
    pub(crate) fn known_pin(&self) -> Option<Pin> {
        if self.tracked.opaque {
            return Some(Pin::Tracker);
        }
        if self.tracked.in_transaction {
            return Some(Pin::Transaction);
        }
        self.lasting_pin.or_else(|| self.statements.pin())
    }

    /// An inventory has found what ties the session.
    pub(crate) fn pinned(&mut self, pin: Pin) {
        if pin.lasts_until_reset() {
            self.lasting_pin = Some(pin);
        }
    }

    /// A response of the compute's has ended with this status.
    pub(crate) fn answered(&mut self, status: StatusFlags) {
        self.tracked.status(status);
        self.status = status & KEPT_STATUS;
    }

    /// A statement has ended, and left warnings or an error, or none.
    pub(crate) fn left_conditions(&mut self, left: bool) {
        self.left_conditions = left;
    }

    /// Its last statement left warnings or an error that a client may still look at, in more ways than can be carried.
    pub(crate) fn has_conditions(&self) -> bool {
        self.left_conditions
    }

    /// A statement may set another role.
    pub(crate) fn may_change_role(&mut self) {
        self.role_unread = true;
    }

    /// A transaction's end closes the connection, whether or not it says RELEASE.
    pub(crate) fn releases(&self) -> bool {
        match self.tracked.variables.get(COMPLETION_TYPE) {
            Some(value) => value == RELEASE,
            None => self.releases,
        }
    }

    /// An inventory has read everything. False: there is no room to keep it, and the session is as before.
    #[must_use]
    fn take_over(
        &mut self,
        scalars: Scalars,
        mut statements: Vec<String>,
        modes: Arc<Modes>,
        changed: &[(String, String)],
    ) -> bool {
        let bytes = self.bytes(&statements);
        if !self.kept.resize(bytes) {
            return false;
        }
        // They were grown piece by piece, and may be kept for hours.
        statements.iter_mut().for_each(String::shrink_to_fit);
        let value = |name: &str| {
            changed
                .iter()
                .find(|(changed, _)| changed == name)
                .map(|(_, value)| value)
        };
        let seconds = value("wait_timeout").and_then(|seconds| seconds.parse().ok());
        self.wait_timeout = seconds.map(Duration::from_secs);
        self.releases = value(COMPLETION_TYPE).is_some_and(|value| value == RELEASE);
        self.role = Some(Role(scalars.role));
        self.role_unread = false;
        self.status = inventory::status_of(&scalars.sql_mode, scalars.autocommit);
        self.results = scalars.character_set_results.as_deref().and_then(ResultsCharset::named);
        self.identity.database = scalars.database;
        self.settings.clear();
        self.tracked.inventoried();
        self.modes = Some(modes);
        self.carried = Some(statements);
        true
    }

    /// The answer to [`inventory::MODES`]. None: it is none.
    pub(crate) fn modes_answered(&mut self, answer: &[u8]) -> Option<()> {
        let modes = Arc::new(inventory::read_modes(answer)?);
        self.statements.read_modes(self.tracked.modes_version(), &modes);
        self.tracked.modes_read();
        self.modes = Some(modes);
        Some(())
    }

    /// The compute connection was given up; everything needed was read before.
    pub(crate) fn parked(&mut self) {
        self.statements.detached();
    }

    /// The compute connection is gone without warning. What is known of the session goes on; answers whether that is all
    /// there was, but for what its last statement left: who asks for that is told `what`.
    pub(crate) fn lost(&mut self, what: Option<Told>) -> bool {
        let pinned = self.lasting_pin.is_some() || self.statements.pin().is_some();
        let plain = self.tracked.is_plain() && !pinned && !self.role_unread;
        self.statements.detached();
        self.releases = self.releases();
        if std::mem::take(&mut self.role_unread) {
            // The one it had before may be one that it has given up.
            self.role = None;
        }
        if let Some(seconds) = self.tracked.variables.get("wait_timeout") {
            self.wait_timeout = seconds.parse().ok().map(Duration::from_secs);
        }
        let mut statements = self.carried.take().unwrap_or_default();
        statements.append(&mut self.settings);
        statements.extend(self.tracked.restore());
        self.tracked.inventoried();
        self.lasting_pin = None;
        self.left_conditions = false;
        if self.previous.is_there() {
            self.previous = what.map_or(Previous::There, Previous::Lost);
        }
        let bytes = self.bytes(&statements);
        if !self.kept.resize(bytes) {
            // A part of a session would be another session.
            let previous = std::mem::take(&mut self.previous);
            self.reset();
            self.carried = Some(Vec::new());
            if !matches!(previous, Previous::Read(_)) {
                self.previous = previous;
            }
            return false;
        }
        self.carried = Some(statements);
        plain
    }

    /// The modes that statements are prepared under now, where they are known exactly.
    pub(crate) fn present_modes(&self) -> Option<&Arc<Modes>> {
        self.modes.as_ref().filter(|_| self.tracked.modes_untouched())
    }

    /// Commands to send right after the login to a compute, whole frames, and how many answers they will have.
    pub(crate) fn replay(&self) -> Replay {
        let mut replay = Replay::default();
        if let Some(on) = self.multi_statements {
            replay.command(Command::SetOption, &[u8::from(!on), 0]);
        }
        if let Some(role) = &self.role {
            replay.query(&role.set());
        }
        for statement in self.carried.iter().flatten() {
            replay.query(statement);
        }
        for statement in &self.settings {
            replay.query(statement);
        }
        for statement in self.tracked.next_transaction() {
            replay.query(statement);
        }
        replay
    }

    /// The client is about to set up the session tracker: it meets what it hears of now, and hears reports unfiltered from
    /// here on.
    pub(crate) fn tracker_is_the_clients(&mut self) -> Replay {
        self.tracked.opaque = true;
        let mut replay = Replay::default();
        replay.query(&self.tracked.hears.statement());
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
    pub(crate) fn query(&mut self, statement: &str) {
        self.command(Command::Query, statement.as_bytes());
    }

    pub(crate) fn command(&mut self, command: Command, argument: &[u8]) {
        let payload = [&[command.code()], argument].concat();
        frame::write_packet(&mut self.frames, &mut 0, &payload);
        self.commands.push(command);
    }
}

#[cfg(test)]
mod tests {
    use mysql_wire::session_track::Change;

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
        assert_eq!(replay.commands, [Command::Query; 3]);
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
    fn a_reset_forgets_settings_and_keeps_the_database_and_the_option() {
        let mut session = session(Capabilities::PROTOCOL_41);
        assert!(session.remember("SET autocommit=0", effect(false)));
        session.reset();
        assert_eq!(session.replay(), Replay::default());
        session.set_multi_statements(true);
        session.reset();
        assert_eq!(session.replay().commands, [Command::SetOption]);
        assert_eq!(session.status(), StatusFlags::AUTOCOMMIT);
        assert_eq!(session.identity.database.as_deref(), Some("demo"));
    }

    fn reported(session: &mut Session, changes: &[Change<'_>]) {
        let mut block = Vec::new();
        changes.iter().for_each(|change| change.encode(&mut block));
        session.reported(
            &OkPacket {
                status: StatusFlags::SESSION_STATE_CHANGED,
                session_track: Some(&block),
                ..OkPacket::default()
            },
            false,
        );
    }

    fn texts(session: &Session) -> Vec<String> {
        let frames = session.replay().frames;
        let mut texts = Vec::new();
        let mut rest = &frames[..];
        while let Some(header) = frame::FrameHeader::decode(rest) {
            texts.push(String::from_utf8_lossy(&rest[5..4 + header.payload_len]).into_owned());
            rest = &rest[4 + header.payload_len..];
        }
        texts
    }

    #[test]
    fn what_is_known_of_a_session_survives_the_loss_of_its_compute() {
        let mut session = session(Capabilities::PROTOCOL_41);
        assert!(session.remember("SET NAMES latin1", SettingEffect::default()));
        let name = |name, value| Change::SystemVariable { name, value };
        reported(
            &mut session,
            &[name(b"sql_mode", b"ANSI"), name(b"sort_buffer_size", b"262144")],
        );
        reported(&mut session, &[Change::Schema(b"other")]);
        assert!(session.lost(None));
        assert!(session.remember("SET autocommit=0", effect(false)));
        assert_eq!(
            texts(&session),
            [
                "SET NAMES latin1",
                "SET sort_buffer_size=262144,sql_mode='ANSI'",
                "SET autocommit=0"
            ]
        );
        assert_eq!(session.identity.database.as_deref(), Some("other"));
        reported(&mut session, &[Change::TransactionState(b"T_______")]);
        assert!(!session.lost(None), "an open transaction is not all there was");
        assert!(session.known_pin().is_none(), "and then the session is usable again");
    }

    #[test]
    fn of_more_attributes_than_are_kept_those_stay_that_fit() {
        let long = vec![b'x'; 3000];
        let pairs = |names: &[&'static str]| {
            let value = |name: &str| if name.len() == 1 { &long[..] } else { &b"short"[..] };
            encode_attributes(names.iter().map(|name| (name.as_bytes(), value(name))))
        };
        assert_eq!(kept_attributes(&pairs(&["a", "bb"])), pairs(&["a", "bb"]));
        assert_eq!(kept_attributes(&pairs(&["a", "b", "c", "dd"])), pairs(&["a", "dd"]));
        let sloppy = [&pairs(&["aa"])[..], &[200]].concat();
        assert_eq!(kept_attributes(&sloppy), sloppy, "as it came");
        for n in [1, 7, 40, 250, 251, 252, 65_535] {
            let many = encode_attributes((0..128 * 1024 / (n + 4)).map(|_| (&b"k"[..], &long[..n.min(3000)])));
            assert!(kept_attributes(&many).len() <= ATTRIBUTES_BYTES_MAX, "{n}");
        }
    }

    #[test]
    fn the_next_transaction_is_what_was_asked_for_on_another_connection() {
        let mut session = session(Capabilities::PROTOCOL_41);
        let asked = b"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SET TRANSACTION READ ONLY;";
        reported(&mut session, &[Change::TransactionCharacteristics(asked)]);
        assert_eq!(
            texts(&session),
            [
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "SET TRANSACTION READ ONLY"
            ]
        );
        reported(&mut session, &[Change::TransactionCharacteristics(b"")]);
        assert!(texts(&session).is_empty());
    }
}
