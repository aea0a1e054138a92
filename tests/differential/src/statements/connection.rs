//! Commands about the session as a whole: its database, role, user, a reset.

use super::Writer;
use crate::step::Act;

pub(super) fn role(w: &mut Writer<'_>) {
    w.say(&[
        "SET ROLE NONE",
        "SET ROLE {w}role",
        "SET ROLE {w}role",
        "SET ROLE nosuch",
    ]);
    if w.chance(20) {
        w.typed.fill(None);
        w.acts.push(Act::ResetConnection);
    }
    w.sql("SELECT CURRENT_ROLE()");
}

pub(super) fn database(w: &mut Writer<'_>) {
    match w.below(5) {
        0 => w.acts.push(Act::InitDb("{o}".into())),
        1 => w.acts.push(Act::InitDb("there_is_none".into())),
        2 => w.sql("USE {o}"),
        3 => w.sql("USE there_is_none"),
        _ => w.acts.push(Act::InitDb("{h}".into())),
    }
    w.say(&[
        "SELECT DATABASE()",
        "SELECT * FROM far ORDER BY id",
        "SELECT COUNT(*) FROM t",
    ]);
    if w.chance(70) {
        w.acts.push(Act::InitDb("{h}".into()));
    }
}

pub(super) fn ping(w: &mut Writer<'_>) {
    w.acts.push(Act::Ping);
}

pub(super) fn reset(w: &mut Writer<'_>) {
    w.typed.fill(None);
    w.acts.push(Act::ResetConnection);
    w.say(&[
        "SELECT DATABASE(), @a, @@sql_mode, @@time_zone, CURRENT_ROLE()",
        "SELECT 1",
    ]);
}

pub(super) fn change_user(w: &mut Writer<'_>) {
    w.typed.fill(None);
    // MariaDB 10.11 leaves the new user the role of the old one, whether or not it is granted to both; the gateway does not.
    w.sql("SET ROLE NONE");
    let database = w.one(&["{h}", "{o}", "{h}"]);
    w.acts.push(Act::ChangeUser { database });
    w.sql("SELECT DATABASE(), @a, @@sql_mode, CURRENT_USER()");
    w.acts.push(Act::InitDb("{h}".into()));
}
