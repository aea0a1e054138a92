//! A session's prepared statements (binary protocol). The client knows them by ids of the gateway's own, which never come
//! again in a session; each compute connection has ids of its own for those that were prepared on it. What is needed to
//! prepare a statement again is kept: its text, the schema and modes it was prepared under, the types of its parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::life::Pin;
use super::shelf::Shelf;
use super::tracked::Pieces;

/// Longer texts are not kept: such a statement ties its session to the connection while it exists.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;
/// All texts of a session together: what an idle client with a driver's usual cache of statements needs many times over.
const TEXTS_BYTES_MAX: usize = 4 << 20;
/// Statements of one session: MariaDB's own bound, there of all sessions together (`max_prepared_stmt_count`), unless a tenant has
/// raised it.
pub(crate) const COUNT_MAX: usize = 16_382;
/// An entry in the map, with the modes that it was prepared under.
const ENTRY_BYTES: usize = size_of::<(u32, Statement)>() + 64;

/// Modes that a statement's text was read under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Modes {
    pub(crate) sql_mode: String,
    pub(crate) character_set_client: String,
    pub(crate) collation_connection: String,
}

impl Modes {
    /// The statement that sets them.
    pub(crate) fn set(&self) -> String {
        // None of the three can hold a quote or a backslash: they are names, and lists of names.
        format!(
            "SET character_set_client='{}',collation_connection='{}',sql_mode='{}'",
            self.character_set_client, self.collation_connection, self.sql_mode
        )
    }
}

/// One statement.
#[derive(Debug)]
pub(crate) struct Statement {
    /// None: too long to keep, or there was no room for more.
    pub(crate) text: Option<Arc<[u8]>>,
    /// Taken of the project's shelf for it; 0 without a text.
    shelved: usize,
    pub(crate) schema: Option<Arc<str>>,
    /// The modes, once an inventory has read them.
    pub(crate) modes: Option<Arc<Modes>>,
    /// The tracked modes' version at the time of PREPARE, to tell whether the inventory's reading is of the same.
    modes_version: u32,
    pub(crate) parameters: u16,
    /// Executing it may change what no report tells of.
    pub(crate) hides: bool,
    /// Executing it may change accounts.
    pub(crate) changes_accounts: bool,
    /// What its text begins with.
    pub(crate) pieces: Pieces,
    /// It asks for the statement before.
    pub(crate) asks: bool,
    /// As sent with the last execution that had them.
    pub(crate) types: Option<Box<[u8]>>,
    /// Its id on the present compute connection.
    pub(crate) compute_id: Option<u32>,
    /// The present compute connection knows the types.
    pub(crate) types_there: bool,
    pub(crate) cursor: bool,
    pub(crate) long_data: bool,
}

/// All of a session's statements.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    /// Looked up several times an execution: among a few short keys a tree is quicker than a hash that resists attacks.
    by_id: BTreeMap<u32, Statement>,
    /// Their ids at the present compute connection.
    compute_ids: BTreeSet<u32>,
    last_id: u32,
    last_prepared: Option<u32>,
    text_bytes: usize,
    /// How many have no modes.
    lacking: usize,
    /// Of the session's project; one of its own before it is known.
    shelf: Arc<Shelf>,
}

impl Drop for Statements {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// What is known of a statement when its PREPARE is answered.
pub(crate) struct Prepared {
    pub(crate) text: Option<Arc<[u8]>>,
    pub(crate) schema: Option<Arc<str>>,
    pub(crate) modes_version: u32,
    pub(crate) parameters: u16,
    /// Its answers have rows.
    pub(crate) has_rows: bool,
    pub(crate) compute_id: u32,
}

impl Statements {
    /// The session is one of the project with this shelf from here on; statements of the one before are closed.
    pub(crate) fn share(&mut self, shelf: &Arc<Shelf>) {
        self.close_all();
        self.shelf = Arc::clone(shelf);
    }

    /// Takes a statement in; the id that the client is given.
    pub(crate) fn prepared(&mut self, prepared: Prepared) -> u32 {
        // MariaDB's own ids count from 1, too.
        self.last_id += 1;
        let schema_bytes = prepared.schema.as_ref().map_or(0, |schema| schema.len());
        // Types that an execution will bring are two bytes for each parameter.
        let beside = ENTRY_BYTES + schema_bytes + 2 * usize::from(prepared.parameters);
        let text = prepared
            .text
            .filter(|text| self.text_bytes + text.len() <= TEXTS_BYTES_MAX && self.shelf.take(text.len() + beside));
        let shelved = text.as_ref().map_or(0, |text| text.len() + beside);
        self.text_bytes += text.as_ref().map_or(0, |text| text.len());
        let read = text.as_deref().map(super::tracked::read_text);
        // An INSERT that answers with rows has no OK that tells of the id it made.
        let hides = read.is_none_or(|read| read.may_hide || read.may_insert && prepared.has_rows);
        let changes_accounts = text.as_deref().is_none_or(crate::accounts::changes_accounts);
        let pieces = text.as_deref().map_or(Pieces::default(), super::tracked::read_pieces);
        let asks = text.as_deref().is_some_and(super::previous::asks);
        let statement = Statement {
            text,
            shelved,
            hides,
            changes_accounts,
            pieces,
            asks,
            schema: prepared.schema,
            modes: None,
            modes_version: prepared.modes_version,
            parameters: prepared.parameters,
            types: None,
            compute_id: Some(prepared.compute_id),
            types_there: false,
            cursor: false,
            long_data: false,
        };
        self.by_id.insert(self.last_id, statement);
        self.compute_ids.insert(prepared.compute_id);
        self.lacking += 1;
        self.last_prepared = Some(self.last_id);
        self.last_id
    }

    /// A PREPARE has failed: there is no statement prepared last.
    pub(crate) fn prepare_failed(&mut self) {
        self.last_prepared = None;
    }

    /// The statement that 0xFFFFFFFF stands for.
    pub(crate) fn last_prepared(&self) -> Option<u32> {
        self.last_prepared.filter(|id| self.by_id.contains_key(id))
    }

    /// The present compute connection knows a statement of ours by this id. Asked for every id that is none of ours: a look at
    /// all statements would hold up whoever shares the thread.
    pub(crate) fn is_compute_id(&self, id: u32) -> bool {
        self.compute_ids.contains(&id)
    }

    /// It was prepared again, on the present connection. None: that did not say by which id it knows it.
    pub(crate) fn prepared_again(&mut self, id: u32, compute_id: Option<u32>) {
        if let Some(statement) = self.by_id.get_mut(&id) {
            statement.compute_id = compute_id;
            statement.types_there = false;
            self.compute_ids.extend(compute_id);
        }
    }

    /// With so many more on their way the session has as many as it may have.
    pub(crate) fn are_full(&self, on_their_way: usize) -> bool {
        self.by_id.len() + on_their_way >= COUNT_MAX
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Statement> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Statement> {
        self.by_id.get_mut(&id)
    }

    /// It cannot be prepared again from here on.
    pub(crate) fn forget_text(&mut self, id: u32) {
        let Some(statement) = self.by_id.get_mut(&id) else {
            return;
        };
        self.text_bytes -= statement.text.take().map_or(0, |text| text.len());
        self.shelf.give_back(std::mem::take(&mut statement.shelved));
    }

    pub(crate) fn close(&mut self, id: u32) -> Option<Statement> {
        let closed = self.by_id.remove(&id)?;
        self.text_bytes -= closed.text.as_ref().map_or(0, |text| text.len());
        self.shelf.give_back(closed.shelved);
        if let Some(compute_id) = closed.compute_id {
            self.compute_ids.remove(&compute_id);
        }
        self.lacking -= usize::from(closed.modes.is_none());
        Some(closed)
    }

    /// A reset of the session closes all; ids are not used again.
    pub(crate) fn close_all(&mut self) {
        let shelved = self.by_id.values().map(|statement| statement.shelved).sum();
        self.shelf.give_back(shelved);
        self.by_id.clear();
        self.compute_ids.clear();
        self.lacking = 0;
        self.text_bytes = 0;
        self.last_prepared = None;
    }

    /// The compute connection is gone: none is prepared anywhere, what was open is not.
    pub(crate) fn detached(&mut self) {
        self.compute_ids.clear();
        for statement in self.by_id.values_mut() {
            statement.compute_id = None;
            statement.types_there = false;
            statement.cursor = false;
            statement.long_data = false;
        }
    }

    /// Gives those that were prepared under the present modes the inventory's reading of them.
    pub(crate) fn read_modes(&mut self, version: u32, modes: &Arc<Modes>) {
        for statement in self.by_id.values_mut() {
            if statement.modes.is_none() && statement.modes_version == version {
                statement.modes = Some(Arc::clone(modes));
                self.lacking -= 1;
            }
        }
    }

    /// What ties the session to its connection, of what is known without asking.
    pub(crate) fn pin(&self) -> Option<Pin> {
        let all = || self.by_id.values();
        if all().any(|statement| statement.cursor) {
            Some(Pin::Cursor)
        } else if all().any(|statement| statement.long_data) {
            Some(Pin::LongData)
        } else if all().any(|statement| statement.text.is_none()) {
            Some(Pin::Statement)
        } else {
            None
        }
    }

    /// How many are prepared on the present compute connection.
    pub(crate) fn prepared_here(&self) -> u64 {
        self.by_id
            .values()
            .filter(|statement| statement.compute_id.is_some())
            .count() as u64
    }

    /// One was prepared under modes that nobody has read.
    pub(crate) fn lacks_modes(&self) -> bool {
        self.lacking > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: Option<&[u8]>, modes_version: u32) -> Prepared {
        Prepared {
            text: text.map(Arc::from),
            schema: None,
            modes_version,
            parameters: 1,
            has_rows: true,
            compute_id: 9,
        }
    }

    #[test]
    fn ids_never_come_again() {
        let mut statements = Statements::default();
        let first = statements.prepared(prepared(Some(b"SELECT 1"), 0));
        assert_eq!(statements.last_prepared(), Some(first));
        statements.close(first);
        assert_eq!(statements.last_prepared(), None);
        let second = statements.prepared(prepared(Some(b"SELECT 1"), 0));
        statements.close_all();
        let third = statements.prepared(prepared(Some(b"SELECT 1"), 0));
        assert!(first < second && second < third);
        statements.prepare_failed();
        assert_eq!(statements.last_prepared(), None);
    }

    #[test]
    fn the_computes_ids_are_known_for_as_long_as_they_mean_something() {
        let mut statements = Statements::default();
        let at = |compute_id| Prepared {
            compute_id,
            ..prepared(Some(b"SELECT 1"), 0)
        };
        let (one, other) = (statements.prepared(at(70)), statements.prepared(at(71)));
        let known = |statements: &Statements| [70, 71, 72].map(|id| statements.is_compute_id(id));
        assert_eq!(known(&statements), [true, true, false]);
        statements.close(one);
        assert_eq!(known(&statements), [false, true, false]);
        statements.detached();
        assert_eq!(known(&statements), [false; 3]);
        statements.prepared_again(other, Some(72));
        assert_eq!(known(&statements), [false, false, true]);
        assert_eq!(statements.get(other).unwrap().compute_id, Some(72));
        statements.close_all();
        assert_eq!(known(&statements), [false; 3]);
    }

    #[test]
    fn what_cannot_be_prepared_again_ties() {
        let mut statements = Statements::default();
        let small = statements.prepared(prepared(Some(b"SELECT 1"), 0));
        assert_eq!(statements.pin(), None);
        let large = statements.prepared(prepared(None, 0));
        assert_eq!(statements.pin(), Some(Pin::Statement));
        statements.close(large);
        statements.get_mut(small).unwrap().cursor = true;
        assert_eq!(statements.pin(), Some(Pin::Cursor));
        statements.detached();
        assert_eq!(statements.pin(), None);
        assert_eq!(statements.get(small).unwrap().compute_id, None);
    }

    #[test]
    fn texts_are_bounded_together() {
        let mut statements = Statements::default();
        let text = vec![b'x'; TEXT_BYTES_MAX];
        let ids: Vec<_> = (0..5).map(|_| statements.prepared(prepared(Some(&text), 0))).collect();
        assert!(statements.get(ids[3]).unwrap().text.is_some());
        assert!(statements.get(ids[4]).unwrap().text.is_none());
        statements.close(ids[0]);
        let next = statements.prepared(prepared(Some(&text), 0));
        assert!(statements.get(next).unwrap().text.is_some());
    }

    #[test]
    fn sessions_of_a_project_keep_texts_on_one_shelf_and_what_finds_no_room_ties_its_session_only() {
        let shelf = Arc::new(Shelf::of(20_000));
        let session = |shelf: &Arc<Shelf>| {
            let mut statements = Statements::default();
            statements.share(shelf);
            statements
        };
        let (mut one, mut other) = (session(&shelf), session(&shelf));
        let text = vec![b'x'; 6_000];
        let kept = [0; 2].map(|_| one.prepared(prepared(Some(&text), 0)));
        other.prepared(prepared(Some(&text), 0));
        assert_eq!((one.pin(), other.pin()), (None, None));
        let refused = other.prepared(prepared(Some(&text), 0));
        assert_eq!((one.pin(), other.pin()), (None, Some(Pin::Statement)));
        // Another project's shelf is another.
        let mut elsewhere = session(&Arc::default());
        elsewhere.prepared(prepared(Some(&text), 0));
        assert_eq!(elsewhere.pin(), None);
        // Whatever ends a statement makes room.
        other.close(refused);
        one.close(kept[0]);
        let next = other.prepared(prepared(Some(&text), 0));
        assert_eq!(other.pin(), None);
        other.forget_text(next);
        other.close(next);
        one.prepared(prepared(Some(&text), 0));
        assert_eq!(one.pin(), None);
        one.close_all();
        assert!(shelf.taken() > 6_000);
        drop((one, other));
        assert_eq!(shelf.taken(), 0);
    }

    #[test]
    fn many_small_statements_find_the_end_of_the_shelf_too() {
        let shelf = Arc::new(Shelf::of(20_000));
        let mut statements = Statements::default();
        statements.share(&shelf);
        let kept = (0..1000).take_while(|_| {
            statements.prepared(prepared(Some(b"DO ?"), 0));
            statements.pin().is_none()
        });
        let kept = kept.count();
        assert!((20..200).contains(&kept), "{kept}");
    }

    #[test]
    fn modes_are_of_the_version_they_were_read_at() {
        let mut statements = Statements::default();
        let old = statements.prepared(prepared(Some(b"a"), 1));
        let new = statements.prepared(prepared(Some(b"b"), 2));
        statements.read_modes(2, &Arc::default());
        assert!(statements.get(new).unwrap().modes.is_some());
        assert!(statements.lacks_modes());
        statements.close(old);
        assert!(!statements.lacks_modes());
    }
}
