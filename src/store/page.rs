//! Pages of a list. A cursor is opaque: the base64 of the last row's place, which ids and times fix for good.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::StoreError;

/// Most rows in one page.
pub const MAX_PAGE: u64 = 500;
/// Rows in a page when the caller does not say.
pub const DEFAULT_PAGE: u64 = 50;

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct Page {
    limit: u64,
    after: Option<String>,
}

impl Page {
    /// From a caller's limit and cursor: more than [`MAX_PAGE`] rows become [`MAX_PAGE`]. `None` when the limit is zero
    /// or the cursor is none of ours.
    pub fn parse(limit: Option<u64>, cursor: Option<&str>) -> Option<Self> {
        let limit = match limit {
            Some(0) => return None,
            Some(limit) => limit.min(MAX_PAGE),
            None => DEFAULT_PAGE,
        };
        let after = match cursor {
            Some(cursor) if cursor.len() > 256 => return None,
            Some(cursor) => {
                let place = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
                // Postgres takes no NUL in a text, and no place of ours has control characters.
                if place.chars().any(char::is_control) {
                    return None;
                }
                Some(place)
            }
            None => None,
        };
        Some(Self { limit, after })
    }

    /// The beginning of a list.
    pub fn first(limit: u64) -> Self {
        Self { limit: limit.clamp(1, MAX_PAGE), after: None }
    }

    /// The place after which the page begins.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The place after which the page begins, in a list whose places are ids of that kind. A cursor of another list is
    /// `NotFound`.
    pub(super) fn after_id<T: FromStr>(&self) -> Result<Option<&str>, StoreError> {
        match self.after() {
            Some(after) if after.parse::<T>().is_err() => Err(StoreError::NotFound),
            after => Ok(after),
        }
    }

    /// One row more than the page holds tells whether another page follows.
    pub(super) fn fetch(&self) -> u64 {
        self.limit + 1
    }

    /// Cuts what was fetched to the page.
    pub(super) fn cut<T>(&self, mut items: Vec<T>, place: impl Fn(&T) -> String) -> Paged<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor =
            if more { items.last().map(|last| URL_SAFE_NO_PAD.encode(place(last))) } else { None };
        Paged { items, next_cursor }
    }
}

/// One page.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// What to ask for next; `None` at the end.
    pub next_cursor: Option<String>,
}

impl<T> Paged<T> {
    /// The same page of other values.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Paged<U> {
        Paged { items: self.items.into_iter().map(change).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_next_one_only_if_there_is_one() {
        let page = Page::first(2);
        let cut = page.cut(vec![1, 2, 3], ToString::to_string);
        assert_eq!(cut.items, [1, 2]);
        let next = Page::parse(None, cut.next_cursor.as_deref()).expect("our cursor");
        assert_eq!(next.after(), Some("2"));
        assert!(page.cut(vec![1, 2], ToString::to_string).next_cursor.is_none());
    }

    #[test]
    fn foreign_cursors_and_zero_are_refused() {
        assert!(Page::parse(Some(0), None).is_none());
        assert!(Page::parse(None, Some("%%%")).is_none());
        assert!(Page::parse(None, Some(&"A".repeat(1000))).is_none());
        assert_eq!(Page::parse(Some(9_999), None).map(|page| page.fetch()), Some(MAX_PAGE + 1));
    }
}
