//! Files that are not what was written.

use std::fs;

use super::*;

/// Reads everything there is to read, filters too.
fn read_all(dir: &Path, layout: &Layout, meta: &SlabMeta, rows: &Oracle) -> Result<(), StateError> {
    let reader = Reader::open(dir, layout, std::slice::from_ref(meta))?;
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let mut found = Oracle::new();
    for _ in 0..2 {
        for _ in 0..slab::FILTER_AFTER_PROBES {
            reader.get_many(&keys, &mut |_, row| {
                found.insert(row[..2].to_vec(), row.to_vec());
            })?;
        }
    }
    assert_eq!(&found, rows, "a wrong answer");
    assert!(layout.filter == 0 || reader.take_stats().filters > 0);
    Ok(())
}

#[test]
fn every_flipped_bit_of_a_file_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    for filter in 0..=2 {
        let (layout, meta, rows) = simple(dir.path(), filter, 31);
        let file = dir.path().join(&meta.file);
        let good = fs::read(&file).unwrap();
        read_all(dir.path(), &layout, &meta, &rows).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&file, &bad).unwrap();
            let error = read_all(dir.path(), &layout, &meta, &rows).expect_err("a changed byte");
            assert!(
                matches!(&error, StateError::Damaged { file: of, .. } if *of == file),
                "{at}: {error}"
            );
        }
    }
}

#[test]
fn every_shorter_or_longer_file_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 2, 31);
    let file = dir.path().join(&meta.file);
    let good = fs::read(&file).unwrap();
    for length in (0..good.len()).chain([good.len() + 1, good.len() + 24]) {
        let mut bad = good.clone();
        bad.resize(length, 0);
        fs::write(&file, &bad).unwrap();
        // With the length the manifest says, and with one that agrees with the file.
        let agreeing = SlabMeta { bytes: length as u64, ..meta.clone() };
        for meta in [&meta, &agreeing] {
            let error = read_all(dir.path(), &layout, meta, &rows).expect_err("a changed length");
            assert!(matches!(error, StateError::Damaged { .. }), "{length}: {error}");
        }
    }
}

#[test]
fn a_file_cut_after_it_was_opened_and_a_missing_one_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, meta, rows) = simple(dir.path(), 0, 31);
    let file = dir.path().join(&meta.file);
    let reader = Reader::open(dir.path(), &layout, std::slice::from_ref(&meta)).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(5).unwrap();
    let keys: Vec<u64> = rows.keys().flatten().copied().collect();
    let error = reader.get_many(&keys, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    let error = reader.scan_prefix_many(&[10], &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&meta.file) && text.contains("restore the file"), "{text}");

    fs::remove_file(&file).unwrap();
    let error = Reader::open(dir.path(), &layout, std::slice::from_ref(&meta)).unwrap_err();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    assert!(error.to_string().contains(&meta.file));
}

#[test]
fn a_sound_file_in_the_place_of_another_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, first, rows) = simple(dir.path(), 2, 31);
    let (_, second, _) = simple(dir.path(), 2, 31);
    assert_eq!(first.bytes, second.bytes);
    let second = dir.path().join(&second.file);
    fs::copy(second, dir.path().join(&first.file)).unwrap();
    let error = read_all(dir.path(), &layout, &first, &rows).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");

    let (layout, meta, rows) = simple(dir.path(), 2, 31);
    for other in [Layout { filter: 1, ..layout.clone() }, Layout { width: 4, ..layout.clone() }] {
        let error = read_all(dir.path(), &other, &meta, &rows).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    }
}

#[test]
fn rows_in_the_file_are_plain_little_endian_words() {
    let dir = tempfile::tempdir().unwrap();
    let (_, meta, rows) = simple(dir.path(), 2, 31);
    let bytes = fs::read(dir.path().join(&meta.file)).unwrap();
    // 96 bytes a block: three rows of 24 bytes, 16 of padding, the checksum.
    let blocks = bytes.chunks(96).map(|block| &block[..block.len().min(72)]);
    let words: Vec<u64> = blocks
        .flat_map(|block| block.chunks_exact(8))
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .take(31 * 3)
        .collect();
    assert_eq!(words, rows.into_values().flatten().collect::<Vec<_>>());
}
