//! Where tests make a run fail: every step that touches the outside has a failpoint before it.
//!
//! They are compiled in only where the crate `fail` has its feature `failpoints`, which the tests ask for: in
//! the product they are nothing. `FAILPOINTS="commit.swap=2*off->panic" tidewater run …` crashes a binary
//! that has them when it comes to this point for the third time. The two points around `COMMIT` and the
//! opening of the catalog know `return` as well, which makes them give an error.

/// Every failpoint, and what a crash there comes before.
pub const POINTS: [(&str, &str); 34] = [
    ("catalog.open", "the catalog is opened, or opened again to find out what became of a commit"),
    ("open.state", "the symbols of the last commit are loaded"),
    ("open.begin", "COMMIT of the transaction that takes the next incarnation"),
    ("open.begun", "the run knows that it has the incarnation"),
    ("open.tables", "the catalog is told of new tables, whose first metadata is written"),
    ("source.read", "a batch that was read goes on to the workers"),
    ("slab.open", "a slab is opened, to look up keys or to merge it"),
    ("slab.create", "a slab's file is made"),
    ("slab.write", "a part of a slab is written"),
    ("slab.sync", "a whole slab is synced"),
    ("slab.merge", "the first row of a merge of slabs"),
    ("state.sync", "the folder of the state is synced, for a commit"),
    ("symbols.write", "new symbols are written to their file, which is empty"),
    ("symbols.sync", "that file is synced"),
    ("data.write", "a part of a data file is written"),
    ("data.finish", "the rest of a data file is written, and its footer"),
    ("file.write", "a file of a table is written, which is made and empty"),
    ("file.sync", "that file is synced"),
    ("file.delete", "a file that expired is deleted"),
    ("commit.cuts", "the rows of the table of cuts are written"),
    ("commit.stage", "the snapshots of a commit are staged"),
    ("manifest.write", "a manifest is written"),
    ("manifest_list.write", "a manifest list is written"),
    ("avro.write", "the bytes of either go to their file"),
    ("avro.sync", "that file is synced"),
    ("metadata.write", "the metadata of a table's next version is written"),
    ("lake.sync", "the folders of the tables are synced, for a commit"),
    ("commit.begin", "BEGIN of the transaction of a commit"),
    ("commit.job", "the job's row is moved"),
    ("commit.table", "the pointer of a table is moved"),
    ("commit.swap", "COMMIT; with `return` it gives an error and nothing was committed"),
    (
        "commit.reply",
        "the reply to COMMIT comes; with `return` it is an error, but all was committed",
    ),
    ("commit.done", "the committer takes note of its commit"),
    ("orphan.delete", "a file that a crashed run left is deleted"),
];
