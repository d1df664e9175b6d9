//! What a comparison with the source has found: faults, each with the commit of its row, and counted rows.

use std::collections::BTreeMap;

use super::Fault;

/// So many faults of a table are told one by one.
const FAULTS_MAX: usize = 1_000;

/// What was found in the tables that rows are only added to.
#[derive(Debug, Default)]
pub(super) struct Found {
    faults: Vec<(u64, Fault)>,
    /// By table: how many faults.
    told: BTreeMap<String, usize>,
    /// By table and commit: rows that were compared.
    rows: BTreeMap<String, BTreeMap<u64, usize>>,
    /// What could not be compared, and why that is no fault.
    pub(super) notes: Vec<String>,
}

impl Found {
    /// Something is wrong with a row of `commit`.
    pub(super) fn fault(&mut self, table: &str, commit: u64, what: String) {
        let told = self.told.entry(table.to_owned()).or_default();
        *told += 1;
        if *told <= FAULTS_MAX {
            self.faults.push((commit, Fault::new(table, what)));
        }
    }

    /// So many rows of each commit were compared.
    pub(super) fn count(&mut self, table: &str, rows: BTreeMap<u64, usize>) {
        self.rows.insert(table.to_owned(), rows);
    }

    /// The faults of rows up to `commit`.
    pub(super) fn faults(&self, commit: u64) -> Vec<Fault> {
        let faults = self.faults.iter().filter(|(of, _)| *of <= commit);
        let mut faults: Vec<Fault> = faults.map(|(_, fault)| fault.clone()).collect();
        for (table, told) in self.told.iter().filter(|(_, told)| **told > FAULTS_MAX) {
            let more = told - FAULTS_MAX;
            faults.push(Fault::new(table, format!("{more} rows more are wrong in some commit")));
        }
        faults
    }

    /// By table: the rows up to `commit`.
    pub(super) fn rows(&self, commit: u64) -> BTreeMap<String, usize> {
        let rows = self.rows.iter();
        rows.map(|(table, rows)| (table.clone(), rows.range(..=commit).map(|(_, n)| n).sum()))
            .collect()
    }
}
