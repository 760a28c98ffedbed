//! Many rows per statement, with few different statements, so that each is prepared once and kept.

use crate::StoreError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};
use std::sync::{Arc, OnceLock};

/// Rows per statement, taken greedily: 255 rows need twelve statements of four different texts. 256 rows of 13 columns stay well below
/// SQLite's 32,766 parameters.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// Bound values in column order.
#[derive(Default)]
pub(super) struct Values(SqliteArguments);

impl Values {
    pub(super) fn blob(&mut self, value: impl Into<Vec<u8>>) -> &mut Self {
        self.0.add(value.into()).expect("a blob always encodes");
        self
    }

    /// u64 as the i64 of the same bits: only values below 2^63 are ever ordered by.
    pub(super) fn int(&mut self, value: u64) -> &mut Self {
        self.0.add(value.cast_signed()).expect("an integer always encodes");
        self
    }

    pub(super) fn into_arguments(self) -> SqliteArguments {
        self.0
    }
}

/// How rows stand in a statement.
#[derive(Clone, Copy)]
enum Rows {
    /// `VALUES (?, ?), (?, ?)`: this many columns per row.
    Values(usize),
    /// `(?, ?, ?)`: what `IN` takes.
    List,
}

/// A statement over a list of rows: what comes before it, its form, what comes after.
pub(super) struct Bulk {
    before: &'static str,
    rows: Rows,
    after: &'static str,
    texts: [OnceLock<Arc<str>>; SIZES.len()],
}

impl Bulk {
    /// `before VALUES (?, …), … after`.
    pub(super) const fn values(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, rows: Rows::Values(columns), after, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// `before (?, …)`, one value per row.
    pub(super) const fn list(before: &'static str) -> Self {
        Self { before, rows: Rows::List, after: "", texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    fn text(&self, size: usize) -> Arc<str> {
        let marks = |count: usize| format!("({})", vec!["?"; count].join(","));
        let build = || match self.rows {
            Rows::Values(columns) => {
                format!("{} VALUES {} {}", self.before, vec![marks(columns); SIZES[size]].join(","), self.after).into()
            }
            Rows::List => format!("{} {}", self.before, marks(SIZES[size])).into(),
        };
        self.texts[size].get_or_init(build).clone()
    }

    /// Splits `rows` into pieces of the known sizes, with the index of each piece's size.
    fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = (usize, &[T])> {
        std::iter::from_fn(move || {
            let size = SIZES.iter().position(|size| *size <= rows.len())?;
            let (piece, rest) = rows.split_at(SIZES[size]);
            rows = rest;
            Some((size, piece))
        })
    }

    fn bind<T>(piece: &[T], bind: fn(&mut Values, &T)) -> SqliteArguments {
        let mut values = Values::default();
        for row in piece {
            bind(&mut values, row);
        }
        values.into_arguments()
    }

    /// Runs the statement over all rows; gives the number of rows it changed.
    pub(super) async fn execute<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: fn(&mut Values, &T),
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for (size, piece) in Self::pieces(rows) {
            let query = sqlx::query_with(AssertSqlSafe(self.text(size)), Self::bind(piece, bind));
            changed += query.execute(&mut *connection).await.map_err(super::database_error)?.rows_affected();
        }
        Ok(changed)
    }

    /// Runs the statement over all rows; gives every row it returns, in no particular order.
    pub(super) async fn fetch<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: fn(&mut Values, &T),
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut found = Vec::new();
        for (size, piece) in Self::pieces(rows) {
            let query = sqlx::query_with(AssertSqlSafe(self.text(size)), Self::bind(piece, bind));
            found.extend(query.fetch_all(&mut *connection).await.map_err(super::database_error)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_rows_in_order_with_few_statements() {
        for count in [0, 1, 3, 4, 255, 256, 1000] {
            let rows: Vec<usize> = (0..count).collect();
            let pieces: Vec<_> = Bulk::pieces(&rows).collect();
            assert!(pieces.iter().all(|(size, piece)| piece.len() == SIZES[*size]));
            assert_eq!(pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect::<Vec<_>>(), rows);
        }
    }
}
