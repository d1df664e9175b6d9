//! Files of state that are not what was written: an error that names the file, or the very same rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use tempfile::TempDir;
use tidewater::state::{Layout, Origin, Reader, SlabMeta, SlabRows, StateError, WriteOptions};

type Rows = BTreeMap<[u64; 2], [u64; 3]>;

/// A sound file and what is in it.
struct Sample {
    _folder: TempDir,
    path: PathBuf,
    layout: Layout,
    meta: SlabMeta,
    bytes: Vec<u8>,
    rows: Rows,
}

/// The first byte says how the file is made: of the input alone, cut short, or of the sound file with some
/// bytes changed (two of place, one of value).
pub(super) fn file(data: &[u8]) -> bool {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    let sample = SAMPLE.get_or_init(sample);
    let Some((kind, data)) = data.split_first() else { return false };
    let mut bytes = sample.bytes.clone();
    match kind % 3 {
        0 => bytes = data.to_vec(),
        1 => {
            let length = data.iter().fold(0, |all: usize, byte| all << 8 | usize::from(*byte));
            bytes.truncate(length % sample.bytes.len());
        }
        _ => {
            for change in data.chunks_exact(3) {
                let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
                let place = place % bytes.len();
                bytes[place] = change[2];
            }
        }
    }
    fs::write(&sample.path, &bytes).expect("the folder can be written to");
    let whole = bytes == sample.bytes;
    // With the length that the manifest says, and with that of the file.
    for length in [sample.meta.bytes, bytes.len() as u64] {
        let meta = SlabMeta { bytes: length, ..sample.meta.clone() };
        match read(sample, meta) {
            Ok(rows) => assert!(whole && rows == sample.rows, "other bytes were read"),
            Err(StateError::Damaged { .. }) => assert!(!whole, "a sound file is refused"),
            Err(other) => panic!("{other}"),
        }
    }
    true
}

fn sample() -> Sample {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let layout = Layout::new("ids", 3, 2, 2).expect("a layout");
    let rows: Rows = (0..31_u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i))
        .map(|(hash, i)| ([hash, i], [hash, i, !i]))
        .collect();
    let mut unsorted = SlabRows::new(layout.clone());
    rows.values().for_each(|row| unsorted.push(row));
    let options = WriteOptions { block_bytes: 96, chunk_blocks: 4 };
    let written = unsorted.write(folder.path(), &Origin::of_commit(1, 0, 1, 0), &options);
    let meta = written.expect("it is written").expect("it has rows");
    let path = folder.path().join(&meta.file);
    let bytes = fs::read(&path).expect("it is there");
    Sample { _folder: folder, path, layout, meta, bytes, rows }
}

/// Looks up every key, often enough that filters are asked too.
fn read(sample: &Sample, meta: SlabMeta) -> Result<Rows, StateError> {
    let folder = sample.path.parent().expect("it is in a folder");
    let reader = Reader::open(folder, &sample.layout, &[meta])?;
    let keys: Vec<u64> = sample.rows.keys().flatten().copied().collect();
    let mut found = Rows::new();
    for _ in 0..40 {
        reader.get_many(&keys, &mut |_, row| {
            found.insert([row[0], row[1]], [row[0], row[1], row[2]]);
        })?;
    }
    let mut scanned = 0;
    let hashes: Vec<u64> = sample.rows.keys().map(|key| key[0]).collect();
    reader.scan_prefix_many(&hashes, &mut |_| scanned += 1)?;
    assert_eq!(scanned, found.len());
    Ok(found)
}
