//! The key of a run: random bytes in the state folder, which process 0 writes and the others read.
//!
//! Whoever has the key belongs to the run. A second file, in the warehouse, can be made with the key alone:
//! who finds it there sees the same warehouse. Both are gone when the run has ended well; a later run
//! writes its own.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::ClusterError;
use crate::job::Job;

const KEY_BYTES: usize = 32;

/// The key of a run.
#[derive(Clone)]
pub(super) struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Random bytes, as hexadecimal digits.
pub(super) fn random_hex() -> String {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .unwrap_or_else(|_| panic!("the system has no random numbers"));
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Key {
    pub(super) fn new(text: &str) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    /// Proves that the maker has the key, for `role` and these messages.
    pub(super) fn proof(&self, role: &str, messages: [&[u8]; 2]) -> String {
        hex(hmac::sign(&self.0, &packed(role, messages)).as_ref())
    }

    /// Whether the proof is right; in constant time.
    pub(super) fn proves(&self, proof: &str, role: &str, messages: [&[u8]; 2]) -> bool {
        let digits = proof.as_bytes();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
        bytes.is_some_and(|bytes| hmac::verify(&self.0, &packed(role, messages), &bytes).is_ok())
    }
}

fn packed(role: &str, messages: [&[u8]; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [role.as_bytes(), messages[0], messages[1]] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The files of a run's key, which are removed with it.
#[derive(Debug)]
pub(super) struct KeyFiles(Vec<PathBuf>);

impl Drop for KeyFiles {
    fn drop(&mut self) {
        // One that stays is written over by the next run.
        self.0.iter().for_each(|file| drop(fs::remove_file(file)));
    }
}

/// Makes the key of a run of `job`.
pub(super) fn make(job: &Job) -> Result<(Key, KeyFiles), ClusterError> {
    let text = random_hex();
    let key = Key::new(&text);
    let files = KeyFiles(vec![key_file(job), warehouse_file(job)]);
    write(&files.0[0], &text)?;
    write(&files.0[1], &warehouse_proof(&key))?;
    Ok((key, files))
}

/// The key that lies in the state folder now.
pub(super) fn read(job: &Job) -> Result<Key, ClusterError> {
    let file = key_file(job);
    let mut text = String::new();
    let opened = File::open(&file).and_then(|file| file.take(1024).read_to_string(&mut text));
    let failed = |error| ClusterError::Key { action: "read", file: shown(&file), error };
    opened.map_err(failed)?;
    Ok(Key::new(&text))
}

/// Whether the warehouse of this process is that of the run.
pub(super) fn sees_warehouse(job: &Job, key: &Key) -> bool {
    fs::read_to_string(warehouse_file(job)).is_ok_and(|text| text == warehouse_proof(key))
}

fn warehouse_proof(key: &Key) -> String {
    key.proof("warehouse", [b"", b""])
}

fn key_file(job: &Job) -> PathBuf {
    job.lake.state.join("run.key")
}

fn warehouse_file(job: &Job) -> PathBuf {
    job.lake.warehouse.join(format!(".{}.run", job.name))
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

/// Puts a file in place as a whole, for its owner alone.
fn write(file: &Path, text: &str) -> Result<(), ClusterError> {
    let draft = file.with_extension("new");
    let written = fs::remove_file(&draft).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let written = written.and_then(|()| {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        out.write_all(text.as_bytes())?;
        fs::rename(&draft, file)
    });
    written.map_err(|error| ClusterError::Key { action: "write", file: shown(file), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_key_role_and_messages() {
        let (key, other) = (Key::new(&random_hex()), Key::new(&random_hex()));
        let proof = key.proof("server", [b"a", b"b"]);
        assert!(key.proves(&proof, "server", [b"a", b"b"]));
        assert!(!other.proves(&proof, "server", [b"a", b"b"]));
        assert!(!key.proves(&proof, "client", [b"a", b"b"]));
        assert!(!key.proves(&proof, "server", [b"ab", b""]));
        for forged in ["", "0", "zz", "\u{e9}\u{e9}", &proof[2..], &proof.replace('0', "1")] {
            assert!(forged == proof || !key.proves(forged, "server", [b"a", b"b"]), "{forged}");
        }
    }
}
