//! The symbol dictionary on disk: files of encoded tuples, loaded whole at the start of a run.
//!
//! A file is `"TWSYM\0\0\1"`, the number of contents (`u32`), for each content its length (`u32`) and bytes,
//! and the xxh3-64 of all before; numbers are little endian. A commit with new symbols adds a file; when
//! there are more than [`FILES_MAX`], one file with all symbols replaces them.

use std::fs;
use std::io::Write;
use std::path::Path;

use fail::fail_point;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::lake::names::Origin;
use crate::model::Interner;

const MAGIC: &[u8; 8] = b"TWSYM\0\0\x01";
/// How the name of a file begins and ends; between stand incarnation, commit and a uuid.
const PREFIX: &str = "symbols-";
const SUFFIX: &str = ".sym";
/// Files of a dictionary before they are made one.
const FILES_MAX: usize = 8;

/// Why the dictionary can't be used.
#[derive(Debug, Error)]
pub enum SymbolsError {
    /// The operating system refused.
    #[error("cannot {action} symbol file {file}: {error}; check the disk and the state folder")]
    Io {
        /// Read or write.
        action: &'static str,
        /// The file.
        file: String,
        /// Its words.
        error: std::io::Error,
    },
    /// The state names a file that is not there.
    #[error(
        "symbol file {file} is missing; rebuild the state from the tables with \
         `tidewater recover JOB.toml`, or restore the file from a backup"
    )]
    Missing {
        /// The file.
        file: String,
    },
    /// The file is not what was written.
    #[error(
        "symbol file {file} is damaged; rebuild the state from the tables with \
         `tidewater recover JOB.toml`, or restore the file from a backup"
    )]
    Damaged {
        /// The file.
        file: String,
    },
}

/// Loads the symbols of `files` in `dir`.
pub fn load(dir: &Path, files: &[String], interner: &Interner) -> Result<(), SymbolsError> {
    for file in files {
        let path = dir.join(file);
        let name = || path.display().to_string();
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => SymbolsError::Missing { file: name() },
            _ => SymbolsError::Io { action: "read", file: name(), error },
        })?;
        let contents = decode(&bytes).ok_or_else(|| SymbolsError::Damaged { file: name() })?;
        contents.into_iter().for_each(|content| {
            interner.load(content);
        });
    }
    Ok(())
}

/// Persists the symbols that are new since the last commit, and puts their file into `files`.
pub fn persist(
    dir: &Path,
    interner: &Interner,
    origin: &Origin,
    files: &mut Vec<String>,
) -> Result<(), SymbolsError> {
    let fresh = interner.take_fresh();
    if fresh.is_empty() {
        return Ok(());
    }
    let contents = if files.len() < FILES_MAX { fresh } else { interner.all() };
    let bytes = encode(contents.iter().map(|(_, content)| &**content));
    let id = uuid::Uuid::now_v7();
    let file = format!("{PREFIX}{:08}-{:012}-{id}{SUFFIX}", origin.incarnation, origin.commit);
    let path = dir.join(&file);
    let written = fs::File::create_new(&path).and_then(|mut out| {
        fail_point!("symbols.write");
        out.write_all(&bytes)?;
        fail_point!("symbols.sync");
        out.sync_data()
    });
    let name = || path.display().to_string();
    written.map_err(|error| SymbolsError::Io { action: "write", file: name(), error })?;
    if files.len() >= FILES_MAX {
        files.clear();
    }
    files.push(file);
    Ok(())
}

/// The incarnation that wrote the file of this name; nothing where it belongs to no dictionary.
pub fn file_incarnation(name: &str) -> Option<u64> {
    let rest = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    rest.split_once('-')?.0.parse().ok()
}

fn encode<'a>(contents: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(contents.len() as u32).to_le_bytes());
    for content in contents {
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(content);
    }
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (body, checksum) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(body) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let count = take_number(&mut rest)?;
    let contents: Option<Vec<&[u8]>> = (0..count)
        .map(|_| {
            let length = take_number(&mut rest)?;
            let (content, behind) = rest.split_at_checked(length as usize)?;
            rest = behind;
            Some(content)
        })
        .collect();
    contents.filter(|_| rest.is_empty())
}

fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_round_trips_and_every_mutation_is_refused() {
        let contents: Vec<&[u8]> = vec![b"eu", b"", b"a longer one"];
        let bytes = encode(contents.iter().copied());
        assert_eq!(decode(&bytes), Some(contents));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None);
            assert_eq!(decode(&bytes[..at]), None);
        }
    }
}
