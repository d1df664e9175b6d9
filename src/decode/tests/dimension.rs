//! The dimension's decoder as a whole.

use super::*;

fn decode(
    records: &[KeyValue<'_>],
) -> (Vec<DimensionChange>, Vec<DeadLetter>, RecordBatch, Arc<Interner>) {
    let spec = DimensionSpec {
        name: "users".into(),
        source: SourceSpec::Directory("users".into()),
        key: pointer("/user/id"),
        key_name: "id".into(),
        deleted: Some(pointer("/deleted")),
        columns: vec![
            column("region", "/region", ColumnType::String, Some(Value::String("none".into()))),
            column("seats", "/seats", ColumnType::Long, None),
        ],
    };
    let interner = Arc::new(Interner::default());
    let mut decoder = DimensionDecoder::new(&spec, "users", Arc::clone(&interner));
    let (mut changes, mut letters) = (Vec::new(), Vec::new());
    let rows = decoder.decode(&batch(records), &mut changes, &mut letters);
    (changes, letters, rows, interner)
}

#[test]
fn records_become_versions_and_rows() {
    let (changes, letters, rows, interner) = decode(&[
        (None, Some(br#"{"user":{"id":"u1"},"region":"eu","seats":3}"#)),
        (None, Some(br#"{"user":{"id":"2"},"deleted":false}"#)),
        (None, Some(br#"{"user":{"id":"u1"},"region":5,"deleted":true}"#)),
        (Some(b"u1"), None),
        (Some(br#""u\u0031""#), None),
        (Some(br#""u1"#), None),
    ]);
    assert!(letters.is_empty(), "{letters:?}");
    let keys = ["u1", "2", "u1", "u1", "u1", "\"u1"];
    for (index, (change, key)) in changes.iter().zip(keys).enumerate() {
        assert_eq!(change.user, user_hash(key));
        assert_eq!(change.position, Position { partition: 7, offset: 100 + index as i64 });
        assert_eq!(change.deleted, index >= 2);
    }
    let mut eu = Vec::new();
    Value::String("eu".into()).encode(&mut eu);
    Value::Long(3).encode(&mut eu);
    assert_eq!(interner.content(changes[0].columns).as_deref(), Some(&eu[..]));
    assert_eq!(interner.content(changes[3].columns).as_deref(), Some(&null_tuple(2)[..]));
    assert_eq!(changes[2].columns, changes[3].columns);

    let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "region", "seats", "_deleted", "_topic", "_partition", "_offset"]);
    assert_eq!(rows.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), keys);
    let regions: Vec<_> = rows.column(1).as_string::<i32>().iter().collect();
    assert_eq!(regions, [Some("eu"), Some("none"), None, None, None, None]);
    assert_eq!(rows.column(2).null_count(), 5);
    assert_eq!(rows.column(3).as_boolean().true_count(), 4);
    assert_eq!(rows.column(4).as_string::<i32>().value(5), "users");
    assert_eq!(rows.column(5).as_primitive::<Int32Type>().value(5), 7);
    assert_eq!(rows.column(6).as_primitive::<Int64Type>().value(5), 105);
}

#[test]
fn only_a_whole_json_string_stands_for_its_content() {
    for key in [r#""u1"x"#, r#""u1"#, r#""u1\q""#, "u1\"", " \"u1\""] {
        let (changes, letters, _, _) = decode(&[(Some(key.as_bytes()), None)]);
        assert!(letters.is_empty(), "{letters:?}");
        assert_eq!((changes[0].user, changes[0].deleted), (user_hash(key), true), "{key}");
    }
}

#[test]
fn bad_records_are_dead_letters() {
    let (changes, letters, rows, _) = decode(&[
        (None, None),
        (Some(b""), None),
        (Some(b"\"\""), None),
        (Some(b"\xff"), None),
        (Some(b"u"), Some(b"")),
        (Some(b"u"), Some(br#"{"user":{}}"#)),
        (None, Some(br#"{"user":{"id":"u"},"deleted":"yes"}"#)),
        (None, Some(br#"{"user":{"id":"u"},"seats":"5"}"#)),
    ]);
    assert_eq!((changes.len(), rows.num_rows()), (0, 0));
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
    let key = Reason::MissingKey;
    let (utf8, empty, kind) = (Reason::InvalidUtf8, Reason::EmptyPayload, Reason::WrongType);
    assert_eq!(reasons, [key, key, key, utf8, empty, key, kind, kind]);
}
