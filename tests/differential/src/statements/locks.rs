//! Locks of users and tables, HANDLERs.

use super::Writer;

pub(super) fn user_lock(w: &mut Writer<'_>) {
    w.say(&[
        "SELECT GET_LOCK('{w}l', 0)",
        "DO GET_LOCK('{w}m', 0)",
        "SELECT GET_LOCK('{w}l', 0), GET_LOCK('{w}m', 0)",
    ]);
    w.say(&[
        "SELECT IS_FREE_LOCK('{w}l'), IS_FREE_LOCK('{w}m')",
        "SELECT IS_USED_LOCK('{w}l') = CONNECTION_ID()",
        "SELECT 1",
    ]);
    if w.chance(80) {
        w.say(&[
            "SELECT RELEASE_LOCK('{w}l'), RELEASE_LOCK('{w}m')",
            "SELECT RELEASE_ALL_LOCKS()",
        ]);
    }
}

pub(super) fn table_lock(w: &mut Writer<'_>) {
    w.say(&[
        "LOCK TABLES {h}.t WRITE",
        "LOCK TABLES {h}.t READ, {h}.counters AS c WRITE",
        "LOCK TABLES {h}.there_is_none READ",
        "LOCK TABLES {h}.t WRITE, {o}.far READ LOCAL",
        "FLUSH TABLES {h}.t WITH READ LOCK",
        "FLUSH TABLES {h}.t FOR EXPORT",
        "BACKUP LOCK {h}.t",
    ]);
    w.say(&[
        "SELECT COUNT(*) FROM {h}.t",
        "SELECT * FROM {o}.far",
        "INSERT INTO {h}.t (b) VALUES ('locked')",
        "DO 1",
    ]);
    w.sql("UNLOCK TABLES");
    w.sql("BACKUP UNLOCK");
}

pub(super) fn handler(w: &mut Writer<'_>) {
    w.sql("HANDLER {h}.t OPEN AS hd");
    for _ in 0..=w.below(2) {
        w.say(&[
            "HANDLER hd READ FIRST",
            "HANDLER hd READ NEXT",
            "HANDLER hd READ `PRIMARY` = (2)",
            "SELECT 1",
        ]);
    }
    if w.chance(80) {
        w.sql("HANDLER hd CLOSE");
    }
}
