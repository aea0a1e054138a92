//! What accounts may use, from all that grants it: an account's own rows, PUBLIC's, and those of roles.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use serde_json::{Map, Value};

use super::Row;
use crate::bounded::{self, Room};
use crate::error::Error;
use crate::sql;

/// Global rights that open every database: the DB_ACLS of MariaDB 10.11.
const ON_DATABASES: u64 = 0x2de7_3c3f;
/// Of the rows that grant rights, as they are read: some fifty thousand.
const READ_BYTES_MAX: usize = 8 << 20;
/// Of what all accounts together may use, when each has what PUBLIC and its roles have: a thousand accounts with two
/// hundred databases each.
const TOLD_BYTES_MAX: usize = 16 << 20;
/// What a gateway is told of an account whose rights are too many to be told. It lets the account into every database, and
/// the server, which decides in any case, only into its own.
const ANY: &str = "%";

/// Who may use which databases, and which roles belong to whom.
#[derive(Default)]
pub(super) struct Rights {
    /// Patterns by user and host; roles have no host.
    patterns: BTreeMap<(String, String), BTreeSet<String>>,
    /// Roles granted to a user and host.
    roles: BTreeMap<(String, String), Vec<String>>,
    /// Roles whose global rights open every database.
    open_roles: BTreeSet<String>,
    /// There are more rows than are read.
    unread: bool,
}

impl Rights {
    pub(super) async fn read(conn: &mut Conn) -> Result<Self, Error> {
        let mut rights = Self::default();
        let mut room = Room::of(READ_BYTES_MAX);
        let patterns = "SELECT User, Host, Db FROM mysql.db";
        for (user, host, pattern) in rights.triples(conn, patterns, &mut room).await? {
            rights.patterns.entry((user, host)).or_default().insert(pattern);
        }
        // Rights on parts of a database open it, too; these names are no patterns.
        let names = "SELECT User, Host, Db FROM mysql.tables_priv UNION SELECT User, Host, Db FROM mysql.columns_priv \
                     UNION SELECT User, Host, Db FROM mysql.procs_priv";
        for (user, host, name) in rights.triples(conn, names, &mut room).await? {
            let patterns = rights.patterns.entry((user, host)).or_default();
            patterns.insert(sql::escaped(&name));
        }
        let roles = "SELECT User, Host, Role FROM mysql.roles_mapping";
        for (user, host, role) in rights.triples(conn, roles, &mut room).await? {
            rights.roles.entry((user, host)).or_default().push(role);
        }
        let open = "SELECT User, Host, Priv FROM mysql.global_priv WHERE Host='' AND JSON_VALUE(Priv, '$.is_role')";
        for (role, _, text) in rights.triples(conn, open, &mut room).await? {
            let privileges: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
            if privileges.get("access").and_then(Value::as_u64).unwrap_or_default() & ON_DATABASES != 0 {
                rights.open_roles.insert(role);
            }
        }
        Ok(rights)
    }

    async fn triples(
        &mut self,
        conn: &mut Conn,
        query: &str,
        room: &mut Room,
    ) -> Result<Vec<(String, String, String)>, Error> {
        let bytes = |(one, two, three): &(String, String, String)| one.len() + two.len() + three.len();
        let kept = bounded::rows(conn, query, room, bytes).await?;
        self.unread |= kept.left_out > 0;
        Ok(kept.rows)
    }

    /// What each may use, by itself and by others.
    pub(super) fn told(&self, rows: &[Row]) -> Vec<Vec<String>> {
        let mut room = Room::of(TOLD_BYTES_MAX);
        let told = rows.iter().map(|row| self.of(row, &mut room));
        let told: Option<Vec<_>> = if self.unread { None } else { told.collect() };
        told.unwrap_or_else(|| rows.iter().map(|_| vec![ANY.to_owned()]).collect())
    }

    /// By itself, by PUBLIC, and by the role that is on when it logs in, with the roles granted to that one. `None`: there is
    /// no room for it. What is looked at takes of the room, too, so that looking ends.
    fn of(&self, row: &Row, room: &mut Room) -> Option<Vec<String>> {
        let mut roles = vec!["PUBLIC"];
        roles.extend(Some(row.text("default_role")).filter(|role| !role.is_empty()));
        let mut known: BTreeSet<&str> = roles.iter().copied().collect();
        let mut at = 0;
        while let Some(role) = roles.get(at) {
            for more in self.roles.get(&of_role(role)).into_iter().flatten() {
                room.take(more.len())?;
                if known.insert(more) {
                    roles.push(more);
                }
            }
            at += 1;
        }
        let everything = row.access() & ON_DATABASES != 0 || roles.iter().any(|role| self.open_roles.contains(*role));
        if everything {
            return Some(vec![ANY.into()]);
        }
        let own = self.patterns.get(&(row.user.clone(), row.host.clone()));
        let of_roles = roles.iter().filter_map(|role| self.patterns.get(&of_role(role)));
        let mut all = BTreeSet::new();
        for pattern in own.into_iter().chain(of_roles).flatten() {
            room.take(pattern.len())?;
            all.insert(pattern.as_str());
        }
        Some(all.into_iter().map(str::to_owned).collect())
    }
}

/// Where a role's own rights and roles are.
fn of_role(role: &str) -> (String, String) {
    (role.to_owned(), String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<Row> {
        let row = |n| Row {
            host: "%".into(),
            user: format!("u{n}"),
            text: String::new(),
            privileges: Map::new(),
        };
        (0..count).map(row).collect()
    }

    fn of_public(databases: usize) -> Rights {
        let names = (0..databases).map(|n| format!("database{n}")).collect();
        Rights {
            patterns: BTreeMap::from([(of_role("PUBLIC"), names)]),
            ..Rights::default()
        }
    }

    #[test]
    fn each_account_is_told_what_public_has_until_that_is_too_much_for_all_of_them() {
        let told = of_public(200).told(&rows(900));
        assert!(told.iter().all(|patterns| patterns.len() == 200));
        let too_many = of_public(20_000).told(&rows(62));
        assert_eq!(too_many, vec![vec!["%".to_owned()]; 62]);
        let unread = Rights {
            unread: true,
            ..of_public(1)
        };
        assert_eq!(unread.told(&rows(2)), vec![vec!["%".to_owned()]; 2]);
    }

    #[test]
    fn roles_that_lead_in_circles_or_very_far_are_followed_only_so_far() {
        let mut rights = of_public(1);
        for n in 0..20_000 {
            let next = vec![format!("r{}", n + 1), "PUBLIC".to_owned()];
            rights.roles.insert(of_role(&format!("r{n}")), next);
        }
        rights.roles.insert(of_role("PUBLIC"), vec!["r0".into()]);
        assert_eq!(rights.told(&rows(1)), [["database0"]]);
        assert_eq!(rights.told(&rows(62)), vec![vec!["%".to_owned()]; 62]);
    }
}
