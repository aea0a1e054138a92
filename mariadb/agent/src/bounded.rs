//! Reading what a tenant can make as much of as it likes, and of whatever type. The agent is outside of what its server may use
//! of memory, so it keeps only what there is room for, and says how much it has left out. Rows of other types than they should
//! have (a tenant may change the server's own tables) are no rows.

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Row, from_row_opt};

use crate::error::Error;

/// What a row or a text takes besides its bytes: heads of its own and of its allocations.
const HEAD: usize = 64;

/// Bytes that may still be kept.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Room {
    pub(crate) fn of(bytes: usize) -> Self {
        Self(bytes)
    }

    /// For so many bytes of text; `None`: there is no room for it, nor for anything after it.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<()> {
        let left = self.0.checked_sub(bytes + HEAD);
        self.0 = left.unwrap_or_default();
        left.map(drop)
    }
}

/// The first rows of an answer, as many as there is room for.
pub(crate) struct Kept<T> {
    pub(crate) rows: Vec<T>,
    /// How many came after them.
    pub(crate) left_out: usize,
}

/// The same for answers that cannot be large: all rows.
pub(crate) async fn few<T: FromRow>(conn: &mut Conn, query: &str) -> Result<Vec<T>, Error> {
    let rows: Vec<Row> = conn.query(query).await?;
    Ok(rows.into_iter().filter_map(read).collect())
}

/// The first row. One that is of another type than it should be is an error: to take it for none could mean that nobody is there.
pub(crate) async fn first<T: FromRow>(conn: &mut Conn, query: &str) -> Result<Option<T>, Error> {
    let row: Option<Row> = conn.query_first(query).await?;
    row.map(|row| read(row).ok_or(Error::Unreadable)).transpose()
}

/// `from_row` and `query` of the driver panic where a value is not of the type that is asked for.
fn read<T: FromRow>(row: Row) -> Option<T> {
    from_row_opt(row)
        .inspect_err(|error| tracing::debug!(%error, "a row that cannot be read is passed over"))
        .ok()
}

/// Reads all rows, because the connection is good for nothing before, and keeps those for which there is room.
pub(crate) async fn rows<T: FromRow>(
    conn: &mut Conn,
    query: &str,
    room: &mut Room,
    bytes: impl Fn(&T) -> usize,
) -> Result<Kept<T>, Error> {
    let mut kept = Kept {
        rows: Vec::new(),
        left_out: 0,
    };
    let mut answer = conn.query_iter(query).await?;
    while let Some(row) = answer.next().await? {
        let Some(row) = read::<T>(row) else { continue };
        if kept.left_out == 0 && room.take(bytes(&row)).is_some() {
            kept.rows.push(row);
        } else {
            kept.left_out += 1;
        }
    }
    drop(answer);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_first_that_has_no_room_has_none_either() {
        let mut room = Room::of(2 * HEAD + 10);
        assert_eq!(room.take(5), Some(()));
        assert_eq!(room.take(7), None);
        assert_eq!(room.take(0), None);
    }
}
