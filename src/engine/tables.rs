//! The table that serves and the one beside it.

use crate::table::Table;

/// Two tables that take turns: one serves while the other is filled, so that a mistake in a file never takes down what
/// runs. A field of its own, because whoever changes a run at the same time needs to borrow nothing but this.
pub(super) struct TablePair {
    pair: [Table; 2],
    is_second: bool,
}

impl TablePair {
    pub(super) const fn new() -> Self {
        TablePair { pair: [Table::new(), Table::new()], is_second: false }
    }

    /// The table that serves.
    pub(super) fn serving(&self) -> &Table {
        let [first, second] = &self.pair;
        if self.is_second { second } else { first }
    }

    /// The one beside it.
    pub(super) fn spare(&self) -> &Table {
        let [first, second] = &self.pair;
        if self.is_second { first } else { second }
    }

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
