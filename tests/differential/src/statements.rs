//! The world that sessions find, and what they do in it, by theme: a theme is a few steps that belong together, as a
//! program would send them. What is generated gives the same answer on every server: nothing of the time, of threads, of
//! plans.
//!
//! Rules for new ones: rows are asked for in an order; ids that transactions and failing statements use are written out,
//! and the counter of AUTO_INCREMENT serves statements that succeed; nothing waits for another session.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::step::Act;
pub(crate) use prepared::SLOTS;
use prepared::Template;
pub(crate) use previous::FOUND_ROWS;
pub(crate) use world::{END, START, WORLD};

mod world;

mod settings;

mod variables;

mod rows;

mod previous;

mod tables;

mod transactions;

mod locks;

mod prepared;

mod programs;

mod connection;

/// One session's part of a case under construction.
pub(crate) struct Writer<'a> {
    pub(crate) random: &'a mut StdRng,
    pub(crate) acts: Vec<Act>,
    /// Kinds of the parameters that each slot's statement was last executed with.
    pub(crate) typed: &'a mut [Option<&'static Template>; SLOTS],
    /// For ids that are written out.
    pub(crate) next_id: &'a mut u32,
}

type Theme = fn(&mut Writer<'_>);

/// How often each is taken, and it.
const THEMES: &[(u32, Theme)] = &[
    (10, settings::setting),
    (4, settings::charset),
    (8, variables::user_variable),
    (6, rows::write_rows),
    (6, rows::read_rows),
    (5, previous::error_and_diagnostics),
    (4, previous::previous_statement),
    (4, tables::temporary_table),
    (5, transactions::transaction),
    (2, transactions::xa),
    (4, programs::text_prepared),
    (12, prepared::binary_prepared),
    (3, prepared::cursor),
    (2, prepared::long_data),
    (4, programs::procedure),
    (3, locks::user_lock),
    (2, locks::table_lock),
    (2, locks::handler),
    (3, rows::sequence),
    (2, connection::role),
    (3, connection::database),
    (2, programs::multi_statement),
    (1, rows::load),
    (1, rows::large),
    (2, rows::field_list),
    (2, connection::ping),
    (2, connection::reset),
    (1, connection::change_user),
    (2, settings::random_numbers),
    (3, settings::set_statement),
    (1, settings::tracker),
    (2, variables::look),
];

/// Adds one theme's steps.
pub(crate) fn add_theme(writer: &mut Writer<'_>) {
    let whole: u32 = THEMES.iter().map(|(weight, _)| weight).sum();
    let mut left = writer.random.random_range(0..whole);
    for (weight, theme) in THEMES {
        if left < *weight {
            return theme(writer);
        }
        left -= weight;
    }
}

impl Writer<'_> {
    fn sql(&mut self, sql: impl Into<String>) {
        self.acts.push(Act::Query(sql.into()));
    }

    fn one(&mut self, of: &[&str]) -> String {
        (*of.choose(self.random).expect("a choice")).to_owned()
    }

    fn say(&mut self, of: &[&str]) {
        let sql = self.one(of);
        self.sql(sql);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.random.random_range(0..bound)
    }

    fn fresh_id(&mut self) -> u32 {
        *self.next_id += 1;
        *self.next_id
    }
}
