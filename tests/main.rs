//! Integration tests, one binary: the real program on real files, and what others make of its tables.
//!
//! | module | what it proves |
//! | --- | --- |
//! | `tidy` | the sources keep the rules of the house |
//! | `cli` | exit codes, messages, the report |
//! | `oracle` | every table at every commit equals a plain recomputation, over random histories |
//! | `faults` | a crash or a lost reply at any step loses and doubles nothing |
//! | `orphans` | what a crash leaves is deleted by later runs, and nothing else |
//! | `restart` | a run that is stopped or killed at any moment loses and doubles nothing |
//! | `recover` | state that was lost is rebuilt from the tables, as if nothing had been lost |
//! | `rivals` | a second run, a frozen one that wakes up, and a locked catalog do no harm |
//! | `cluster` | several processes: who does not belong can't join, who is lost ends the run everywhere |
//! | `horizon` | ids are forgotten by generations, and only when many newer ones have come |
//! | `hydration` | a run over a small change reads the state that it touches, and no more |
//! | `interop` | PyIceberg and DuckDB read the same, and DuckDB computes the same from the raw lines |
//! | `differential` | differential-dataflow computes the same |
//! | `verify` | `verify`, `diff` and `explain` find what is there, and what is wrong |
//! | `verify_source` | what `verify --from source` computes from the topics is what the tables hold |
//! | `kafka` | topics on a real broker give what follows from their records |

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may wait, and fail")]

mod suite;
