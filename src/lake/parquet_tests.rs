//! Tests of [`super`]: metrics of every kind of column, partitions, settings.

use arrow_array::{Array, Int64Array, StringArray};

use super::*;
use crate::lake::read::read_data_file;
use crate::lake::schema::{ColumnKind, ColumnSpec, FIRST_HIDDEN_FIELD_ID, Partitioning};
use crate::lake::testing::{Bench, DAY, spec};

#[test]
fn metrics_cover_all_row_groups_and_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), spec("t", Partitioning::None, true));
    let file = bench.file(0..100, Some(3));
    assert_eq!((file.rows, file.split_offsets.len()), (100, 3));
    assert_eq!(file.value_counts.values().copied().collect::<Vec<_>>(), [100; 9]);
    assert_eq!(file.null_counts[&1], 0);
    assert_eq!(file.null_counts[&3], 14);
    let long = |id: i32, at: &BTreeMap<i32, Vec<u8>>| {
        i64::from_le_bytes(at[&id].as_slice().try_into().unwrap())
    };
    assert_eq!((long(1, &file.lower), long(1, &file.upper)), (0, 99));
    assert_eq!(long(2, &file.lower), 3 * DAY);
    // Row groups start with other letters; bounds are those of the whole file, cut to 16 bytes.
    assert_eq!(file.lower[&3], "aaé-00000000000".as_bytes());
    assert_eq!(file.upper[&3], "zzé-00000000001".as_bytes());
    // Id 0 gives -50 * 1,000,003 = -50,000,150 unscaled.
    assert_eq!(file.lower[&4], (-50_000_150_i32).to_be_bytes());
    assert_eq!(file.lower[&5], (-500_i16).to_be_bytes());
    assert_eq!(file.lower[&6], (-50_000_150_i128 * 1_000_000_000).to_be_bytes()[8..]);
    assert_eq!((&*file.lower[&7], &*file.upper[&7]), (&[0_u8][..], &[1_u8][..]));
    assert_eq!(file.lower[&8], (-297_i32).to_le_bytes());
    assert_eq!(file.upper[&9], 99_i64.to_be_bytes());
}

#[test]
fn hidden_columns_are_read_back_and_have_no_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), spec("t", Partitioning::None, true));
    let file = bench.file(10..20, None);
    let ids = |map: &BTreeMap<i32, u64>| map.keys().all(|id| *id < FIRST_HIDDEN_FIELD_ID);
    assert!(ids(&file.column_sizes) && ids(&file.value_counts) && ids(&file.null_counts));
    assert!(!file.lower.contains_key(&FIRST_HIDDEN_FIELD_ID));
    let batches = read_data_file(&file.path, Some(&["id", "total", "key"])).unwrap();
    let totals = batches[0].column_by_name("total").unwrap();
    let totals = totals.as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!(
        totals.values(),
        &[10_000, 11_000, 12_000, 13_000, 14_000, 15_000, 16_000, 17_000, 18_000, 19_000]
    );
    let all = read_data_file(&file.path, None).unwrap();
    assert_eq!(all[0].schema().fields(), bench.spec.arrow_schema().fields());
    let missing = read_data_file(&file.path, Some(&["nope"])).unwrap_err().to_string();
    assert!(missing.contains("no column nope"), "{missing}");
}

#[test]
fn a_column_of_nulls_has_no_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), spec("t", Partitioning::Day("at".into()), false));
    let file = bench.file(0..90, None);
    assert_eq!(file.partition, FilePartition::Day(None));
    assert_eq!(file.null_counts[&2], 90);
    assert!(!file.lower.contains_key(&2) && !file.upper.contains_key(&2));
}

#[test]
fn rows_of_another_day_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), spec("t", Partitioning::Day("at".into()), false));
    let batch = crate::lake::testing::rows(&bench.spec, 0..10, Some(5));
    for wrong in
        [FilePartition::Day(Some(4)), FilePartition::Day(None), FilePartition::Unpartitioned]
    {
        let path = folder.path().join("x.parquet").display().to_string();
        let mut writer =
            DataFileWriter::new(&bench.layout, wrong, &bench.store, path.clone()).unwrap();
        writer.write(&batch).unwrap();
        let refused = writer.finish();
        assert!(matches!(refused, Err(WriteError::Partition { .. })), "{wrong:?}");
        assert!(!std::path::Path::new(&path).exists());
    }
}

#[test]
fn a_bound_that_cannot_be_rounded_up_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec("t", Partitioning::None, false);
    spec.columns = vec![ColumnSpec::new("s", ColumnKind::String, false)];
    spec.sort.clear();
    let store = Store::local();
    let settings = ParquetSettings::from_properties(&spec.properties).unwrap();
    let layout = FileLayout::new(&spec, &settings).unwrap();
    let highest = "\u{10ffff}".repeat(9);
    let rows: StringArray = [Some("m"), Some(highest.as_str()), None].into_iter().collect();
    let batch = RecordBatch::try_new(spec.arrow_schema(), vec![Arc::new(rows)]).unwrap();
    let path = folder.path().join("x.parquet").display().to_string();
    let mut writer =
        DataFileWriter::new(&layout, FilePartition::Unpartitioned, &store, path).unwrap();
    writer.write(&batch).unwrap();
    assert!(writer.bytes() > 0 && writer.rows() == 3);
    let file = writer.finish().unwrap();
    assert!(file.upper.get(&1).is_none_or(|upper| upper.as_slice() >= highest.as_bytes()));
    assert_eq!(file.lower[&1], b"m");
}

#[test]
fn properties_choose_the_codec() {
    let settings = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ParquetSettings::from_properties(&map).map(|s| s.compression)
    };
    let zstd = |level| Compression::ZSTD(ZstdLevel::try_new(level).unwrap());
    assert_eq!(settings(&[]).unwrap(), zstd(1));
    assert_eq!(settings(&[(LEVEL_PROPERTY, "7")]).unwrap(), zstd(7));
    assert_eq!(settings(&[(CODEC_PROPERTY, "Snappy")]).unwrap(), Compression::SNAPPY);
    assert!(settings(&[(CODEC_PROPERTY, "zip")]).unwrap_err().to_string().contains("zstd, snappy"));
    assert!(settings(&[(LEVEL_PROPERTY, "99")]).is_err());
}

#[test]
fn an_encoding_is_chosen_for_known_columns_only() {
    let spec = spec("t", Partitioning::None, false);
    let mut settings = ParquetSettings::from_properties(&spec.properties).unwrap();
    settings.delta_columns = vec!["nope".into()];
    let error = FileLayout::new(&spec, &settings).unwrap_err().to_string();
    assert!(error.contains("lake.t has no column nope"), "{error}");
}
