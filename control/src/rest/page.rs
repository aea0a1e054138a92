//! Pages of lists: every list has an order, `after` is the last name of the page before, `next` is that of this one.

use serde::Deserialize;
use utoipa::IntoParams;

use super::Problem;

/// A page of 100 fits a screenful of a script; 1,000 is a body of a few hundred KiB.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// The page to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// `next` of the page before.
    pub(super) after: Option<String>,
    /// How many at most; 100 where absent. More than 1,000 are 1,000, less than 1 is 1.
    // Of a `u32` the document would say int32, which ends before it does.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
}

impl Page {
    /// Where the query says more than that.
    pub(super) fn new(after: Option<String>, limit: Option<u32>) -> Self {
        Self { after, limit }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    /// How many to read: one more than the page, to see whether there is a next.
    pub(super) fn reads(&self) -> u32 {
        self.limit() + 1
    }

    /// `after` where the list is in the order of a number that grows with time.
    pub(super) fn before(&self) -> Result<Option<i64>, Problem> {
        let parse = |text: &String| {
            let refuse = || {
                Problem::invalid(
                    "invalid_query",
                    format!("after = {text:?} is not `next` of a page before"),
                )
            };
            text.parse().map_err(|_| refuse())
        };
        self.after.as_ref().map(parse).transpose()
    }

    /// This page of what was read, and what the next comes after.
    pub(super) fn cut<T>(&self, mut read: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let more = read.len() > self.limit() as usize;
        read.truncate(self.limit() as usize);
        let next = read.last().filter(|_| more).map(name);
        (read, next)
    }

    /// This page of a list that is whole in memory, in the order of names.
    pub(super) fn of<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let after = |item: &T| self.after.as_ref().is_none_or(|after| name(item) > *after);
        let read = all.into_iter().filter(after).take(self.reads() as usize).collect();
        self.cut(read, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: Option<&str>, limit: Option<u32>) -> (Vec<String>, Option<String>) {
        let page = Page {
            after: after.map(Into::into),
            limit,
        };
        page.of(["a", "b", "c"].map(String::from), String::clone)
    }

    #[test]
    fn next_is_the_last_name_where_more_follows() {
        let all = || ["a", "b", "c"].map(String::from).to_vec();
        assert_eq!(page(None, None), (all(), None));
        assert_eq!(page(None, Some(3)), (all(), None));
        assert_eq!(page(None, Some(2)), (all()[..2].to_vec(), Some("b".into())));
        assert_eq!(page(Some("b"), Some(2)), (all()[2..].to_vec(), None));
        assert_eq!(page(Some("c"), None), (vec![], None));
        assert_eq!(page(None, Some(0)).0.len(), 1, "a page has at least one");
    }
}
