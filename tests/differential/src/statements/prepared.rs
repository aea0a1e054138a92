//! Statements prepared by commands: executed, fetched from, reset, closed.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::Writer;
use crate::step::{Act, LAST_PREPARED, Slot, Value};

/// Statements that a session keeps at once.
pub(crate) const SLOTS: usize = 6;

/// A statement to prepare and what its parameters are.
#[derive(Debug)]
pub(crate) struct Template {
    sql: &'static str,
    parameters: &'static [Parameter],
}

#[derive(Debug, Clone, Copy)]
enum Parameter {
    Whole,
    Text,
    Any,
    /// Any but NULL, with its type: a variable set to a NULL has the character set of what the parameter was given before on
    /// this connection (10.11).
    Given,
    FreshId,
    When,
}

const TEMPLATES: &[Template] = &[
    Template {
        sql: "SELECT ? AS p, CHARSET(?) AS c, ? + 1 AS n",
        parameters: &[Parameter::Any, Parameter::Text, Parameter::Whole],
    },
    Template {
        sql: "SELECT id, a, b, d, f, bl, dt FROM {h}.t WHERE id >= ? ORDER BY id",
        parameters: &[Parameter::Whole],
    },
    Template {
        sql: "INSERT INTO {h}.watched (id, x) VALUES (?, ?)",
        parameters: &[Parameter::FreshId, Parameter::Text],
    },
    Template {
        sql: "UPDATE {h}.counters SET n = n + 1 WHERE name = ?",
        parameters: &[Parameter::Text],
    },
    Template {
        sql: "SELECT @@session.sql_mode, @@session.time_zone, @a",
        parameters: &[],
    },
    Template {
        sql: "SELECT HEX(?), LENGTH(?)",
        parameters: &[Parameter::Text, Parameter::Any],
    },
    Template {
        sql: "CALL results(?, ?)",
        parameters: &[Parameter::Whole, Parameter::Text],
    },
    Template {
        sql: "SELECT ? + INTERVAL 1 DAY, seq FROM seq_1_to_9",
        parameters: &[Parameter::When],
    },
    Template {
        sql: "SELECT count_up(?)",
        parameters: &[Parameter::Whole],
    },
    Template {
        sql: "SET @a = ?",
        parameters: &[Parameter::Given],
    },
    Template {
        sql: "SELECT v FROM {o}.far WHERE id = ?",
        parameters: &[Parameter::Whole],
    },
    Template {
        sql: "DO 1",
        parameters: &[],
    },
];

const REFUSED: &[&str] = &[
    "SELECT FROM",
    "SELECT * FROM {h}.there_is_none",
    "SELECT 1; SELECT 2",
    "SELECT nosuch FROM {h}.t",
    "",
];

pub(super) fn binary_prepared(w: &mut Writer<'_>) {
    let slot = w.below(SLOTS as u32) as usize;
    if w.typed[slot].is_none() || w.chance(30) {
        prepare(w, slot);
    } else if w.chance(12) {
        w.acts.push(Act::ResetStatement { slot: slot as Slot });
    }
    let mut types = true;
    for _ in 0..=w.below(3) {
        execute(w, slot, types, false);
        // Once they were told, a client may leave them out.
        types = w.chance(40);
        if w.chance(20) {
            w.sql("SELECT 'in between'");
        }
    }
    if w.chance(10) {
        w.acts.push(Act::Execute {
            slot: 200,
            types: true,
            cursor: false,
            values: Vec::new(),
        });
    }
    if w.chance(25) {
        w.typed[slot] = None;
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
        if w.chance(30) {
            execute_template(w, slot as Slot, &TEMPLATES[4], true, false);
        }
    }
}

fn prepare(w: &mut Writer<'_>, slot: usize) {
    if w.typed[slot].take().is_some() && w.chance(80) {
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
    }
    if w.chance(10) {
        let sql = w.one(REFUSED);
        w.acts.push(Act::Prepare {
            slot: slot as Slot,
            sql,
        });
    }
    let template = TEMPLATES.choose(w.random).expect("a template");
    w.acts.push(Act::Prepare {
        slot: slot as Slot,
        sql: template.sql.into(),
    });
    w.typed[slot] = Some(template);
    if w.chance(15) {
        execute_template(w, LAST_PREPARED, template, true, false);
    }
}

fn execute(w: &mut Writer<'_>, slot: usize, types: bool, cursor: bool) {
    if let Some(template) = w.typed[slot] {
        execute_template(w, slot as Slot, template, types, cursor);
    }
}

fn execute_template(w: &mut Writer<'_>, slot: Slot, template: &Template, types: bool, cursor: bool) {
    // Executed again without types, MariaDB 10.11 cuts a text given to a procedure to the length it had at the first
    // execution on this connection.
    let given = template
        .parameters
        .iter()
        .any(|parameter| matches!(parameter, Parameter::Given));
    let types = types || given || template.sql.starts_with("CALL");
    let values = template
        .parameters
        .iter()
        .map(|parameter| value(w, *parameter, types))
        .collect();
    w.acts.push(Act::Execute {
        slot,
        types,
        cursor,
        values,
    });
}

/// Where the type is not told, it is the one that was told first.
fn value(w: &mut Writer<'_>, parameter: Parameter, types: bool) -> Value {
    let n = w.random.next_u32();
    match parameter {
        // Told as NULL, a type cannot be left out for another value: the compute then reads what it read last.
        Parameter::Whole if !types && w.chance(10) => Value::Null,
        Parameter::Whole => Value::LongLong(i64::from(n % 7)),
        Parameter::FreshId => Value::Long(w.fresh_id() as i32),
        Parameter::Text => Value::Text(w.one(&["q", "", "\u{fc}ber \u{1f9ad}", "x", "it's"])),
        Parameter::When => Value::DateTime(2024, 2, 28, 23, 59, 59, n % 1_000_000),
        Parameter::Any if !types || n.is_multiple_of(9) => Value::Null,
        Parameter::Any | Parameter::Given => match n % 8 {
            1 => Value::Tiny(-3),
            2 => Value::Unsigned(u64::MAX),
            3 => Value::Double(0.1),
            4 => Value::Decimal("123456789.000000001".into()),
            5 => Value::Blob(vec![0, 0xff, b'\'', b'\\']),
            6 => Value::Time {
                negative: true,
                days: 3,
                hour: 4,
                minute: 5,
                second: 6,
            },
            7 => Value::Text("t".repeat(300)),
            _ => Value::Long(i32::MIN),
        },
    }
}

pub(super) fn cursor(w: &mut Writer<'_>) {
    let slot = w.below(SLOTS as u32) as usize;
    if w.typed[slot].take().is_some() {
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
    }
    let template = [&TEMPLATES[1], &TEMPLATES[7]][w.below(2) as usize];
    w.acts.push(Act::Prepare {
        slot: slot as Slot,
        sql: template.sql.into(),
    });
    w.typed[slot] = Some(template);
    execute(w, slot, true, true);
    for _ in 0..w.below(4) {
        let rows = w.below(5) + 1;
        w.acts.push(Act::Fetch {
            slot: slot as Slot,
            rows,
        });
    }
    if w.chance(60) {
        w.acts.push(Act::ResetStatement { slot: slot as Slot });
    }
}

pub(super) fn long_data(w: &mut Writer<'_>) {
    let slot = w.below(SLOTS as u32) as usize;
    if w.typed[slot].take().is_some() {
        w.acts.push(Act::CloseStatement { slot: slot as Slot });
    }
    let slot = slot as Slot;
    w.acts.push(Act::Prepare {
        slot,
        sql: "SELECT LENGTH(?), ?".into(),
    });
    for _ in 0..=w.below(2) {
        w.acts.push(Act::LongData {
            slot,
            parameter: 0,
            data: "long ".repeat(40),
        });
    }
    if w.chance(20) {
        w.acts.push(Act::ResetStatement { slot });
    }
    let values = vec![Value::Sent, Value::Long(7)];
    w.acts.push(Act::Execute {
        slot,
        types: true,
        cursor: false,
        values,
    });
    w.acts.push(Act::CloseStatement { slot });
}
