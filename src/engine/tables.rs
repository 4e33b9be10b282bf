//! The table that serves and the one beside it, if there is one.

use crate::table::Table;

/// The tables of an engine. A field of its own, because whoever changes a run at the same time needs to borrow nothing but
/// this.
pub trait Tables {
    const NEW: Self;

    /// The table that serves.
    fn serving(&self) -> &Table;

    /// The table that is filled before it serves.
    fn filling(&mut self) -> &mut Table;
}

/// The table of firmware, which is given its services once and for all.
pub struct OneTable(Table);

impl Tables for OneTable {
    const NEW: Self = OneTable(Table::new());

    fn serving(&self) -> &Table {
        &self.0
    }

    fn filling(&mut self) -> &mut Table {
        &mut self.0
    }
}

/// Two tables that take turns: one serves while the other is filled, so that a mistake in a file never takes down what
/// runs.
pub struct TablePair {
    pair: [Table; 2],
    is_second: bool,
}

impl Tables for TablePair {
    const NEW: Self = TablePair { pair: [Table::new(), Table::new()], is_second: false };

    fn serving(&self) -> &Table {
        let [first, second] = &self.pair;
        if self.is_second { second } else { first }
    }

    fn filling(&mut self) -> &mut Table {
        self.both_mut().1
    }
}

impl TablePair {
    /// Both, the serving one first.
    pub(super) fn both_mut(&mut self) -> (&Table, &mut Table) {
        let [first, second] = &mut self.pair;
        if self.is_second { (second, first) } else { (first, second) }
    }

    /// From here on the other one serves.
    pub(super) fn swap(&mut self) {
        self.is_second = !self.is_second;
    }
}
