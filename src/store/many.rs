//! Statements about many rows at once.
//!
//! Their texts come in few lengths on SQLite, because a statement is prepared once for each text, and preparing one with
//! hundreds of rows costs more than running it.

use std::{fmt::Write, iter};

use sea_orm::DbBackend;

/// Most rows in one statement: with 25 columns each below SQLite's 32 766 and Postgres' 65 535 parameters.
pub(super) const ROWS_AT_ONCE: usize = 512;

/// For how many rows a statement is written that is to take so many: on SQLite for a power of two. Postgres prepares any
/// length quickly, and refuses to change a row twice.
pub(super) const fn room(backend: DbBackend, rows: usize) -> usize {
    match backend {
        DbBackend::Postgres => rows,
        _ => rows.next_power_of_two(),
    }
}

/// As many items as there is room for: after the given ones `filler` of the last, which must change nothing.
pub(super) fn filled<'a, T>(
    given: &'a [T],
    room: usize,
    filler: impl Fn(&T) -> T + 'a,
) -> impl Iterator<Item = T> + 'a
where
    T: Copy,
{
    let last = given.last();
    given.iter().copied().chain(iter::from_fn(move || last.map(&filler))).take(room)
}

/// The parameter of the value at `place`, the first being 1. Parameters must stand in a statement in the order of their
/// values: SQLite's have no numbers. With numbers it takes them for names, and looks each of them up among all others.
pub(super) fn parameter(backend: DbBackend, place: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("${place}"),
        _ => "?".to_owned(),
    }
}

/// `($1,$2,$3),($4,$5,$6)`: so many rows of so many parameters, after the first `after`.
pub(super) fn parameters(backend: DbBackend, after: usize, rows: usize, width: usize) -> String {
    let mut text = String::with_capacity(rows * (2 * width + 2));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..width {
            text.push_str(if column == 0 { "" } else { "," });
            match backend {
                // Writing to a string cannot fail.
                DbBackend::Postgres => drop(write!(text, "${}", after + row * width + column + 1)),
                _ => text.push('?'),
            }
        }
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_numbers_on_postgres_only() {
        assert_eq!(parameters(DbBackend::Postgres, 1, 2, 3), "($2,$3,$4),($5,$6,$7)");
        assert_eq!(parameters(DbBackend::Sqlite, 1, 2, 3), "(?,?,?),(?,?,?)");
        assert_eq!(parameter(DbBackend::Postgres, 7), "$7");
        assert_eq!(parameter(DbBackend::Sqlite, 7), "?");
    }

    #[test]
    fn only_sqlite_gets_more_rows_than_there_are() {
        let filled_to = |backend| filled(&[1, 2, 5], room(backend, 3), |last| -last).collect::<Vec<_>>();
        assert_eq!(filled_to(DbBackend::Postgres), [1, 2, 5]);
        assert_eq!(filled_to(DbBackend::Sqlite), [1, 2, 5, -5]);
    }

    #[test]
    fn the_most_rows_are_a_room_of_their_own() {
        assert_eq!(room(DbBackend::Sqlite, ROWS_AT_ONCE), ROWS_AT_ONCE);
    }
}
