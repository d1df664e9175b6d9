//! Why a record is refused: every reason, and records that come close to one.

use super::*;

#[test]
fn every_reason_of_the_grammar() {
    let nested = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = r#"{"x":"#.repeat(100_000);
    let large = format!(r#"{{"id":"{}"}}"#, "x".repeat(10_000_000));
    for (document, expected) in [
        (&b""[..], Reason::EmptyPayload),
        (b" \n\t", Reason::EmptyPayload),
        (b"{\"id\":\"\xff\"}", Reason::InvalidUtf8),
        (b"{\"skipped\":\"\xc3\"}", Reason::InvalidUtf8),
        (b"{\"skipped\":\"\xed\xa0\x80\"}", Reason::InvalidUtf8),
        (br#"{"id":"e""#, Reason::NotJson),
        (br#"{"id":"e"#, Reason::NotJson),
        (br#"{"id":"#, Reason::NotJson),
        (br#"{"id""#, Reason::NotJson),
        (b"{", Reason::NotJson),
        (br#"{"id":"e",}"#, Reason::NotJson),
        (br#"{,"id":"e"}"#, Reason::NotJson),
        (br#"{"x":[1,]}"#, Reason::NotJson),
        (br#"{"x":01}"#, Reason::NotJson),
        (br#"{"x":+1}"#, Reason::NotJson),
        (br#"{"x":NaN}"#, Reason::NotJson),
        (br#"{"x":nul}"#, Reason::NotJson),
        (br#"{"x":'a'}"#, Reason::NotJson),
        (br#"{x:1}"#, Reason::NotJson),
        (br#"{"x" 1}"#, Reason::NotJson),
        (br#"{"x":1 "y":2}"#, Reason::NotJson),
        (b"{\"x\":\"a\nb\"}", Reason::NotJson),
        (br#"{"x":"\q"}"#, Reason::NotJson),
        (b"\xef\xbb\xbf{}", Reason::NotJson),
        (b"{}\0", Reason::TrailingBytes),
        (b"{} {}", Reason::TrailingBytes),
        (b"{}}", Reason::TrailingBytes),
        (b"[]", Reason::NotAnObject),
        (b" null ", Reason::NotAnObject),
        (b"\"text\"", Reason::NotAnObject),
        (b"1", Reason::NotAnObject),
        (nested.as_bytes(), Reason::TooDeep),
        (objects.as_bytes(), Reason::TooDeep),
        (large.as_bytes(), Reason::TooLarge),
        (br#"{"id":"a","id":"a"}"#, Reason::DuplicateKey),
        (br#"{"id":"a","i\u0064":"a"}"#, Reason::DuplicateKey),
        (br#"{"new":1,"new":1}"#, Reason::DuplicateKey),
        (br#"{"x":[{"a":1,"b":2,"a":1}]}"#, Reason::DuplicateKey),
        (br#"{"device":{"os":"a","os":"b"}}"#, Reason::DuplicateKey),
        (br#"{"x":"\ud800"}"#, Reason::LoneSurrogate),
        (br#"{"\udc00":1}"#, Reason::LoneSurrogate),
        (br#"{"x":[{"y":"\ud800\u0041"}]}"#, Reason::LoneSurrogate),
        (br#"{"x":1e400}"#, Reason::OutOfRange),
        (br#"{"x":[-1e999]}"#, Reason::OutOfRange),
    ] {
        let text = String::from_utf8_lossy(&document[..document.len().min(60)]).into_owned();
        assert_eq!(reason(document), Some(expected), "{text}");
    }
    let deep = |levels: usize| format!(",\"x\":{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(refusal(&deep(DEPTH_MAX as usize - 1)), None);
    assert_eq!(refusal(&deep(DEPTH_MAX as usize)), Some(Reason::TooDeep));
}

#[test]
fn what_is_at_a_bound_is_taken_and_what_is_beyond_it_is_not() {
    // The document itself is the first object, the empty one the last.
    let objects = |levels: usize| {
        format!(",\"x\":{}{{}}{}", r#"{"x":"#.repeat(levels - 2), "}".repeat(levels - 2))
    };
    assert_eq!(refusal(&objects(DEPTH_MAX as usize)), None);
    assert_eq!(refusal(&objects(DEPTH_MAX as usize + 1)), Some(Reason::TooDeep));

    let mut record = br#"{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z"}"#.to_vec();
    record.resize(RECORD_BYTES_MAX, b' ');
    assert_eq!(reason(&record), None);
    record.push(b' ');
    assert_eq!(reason(&record), Some(Reason::TooLarge));
}

#[test]
fn many_keys_of_an_object_are_not_compared_pair_by_pair() {
    // That would take minutes.
    let mut members: String = (0..400_000).map(|key| format!(",\"{key}\":1")).collect();
    assert_eq!(refusal(&members), None);
    members.push_str(",\"399999\":1");
    assert_eq!(refusal(&members), Some(Reason::DuplicateKey));
}

#[test]
fn a_fault_names_its_byte() {
    let arrays = format!(r#"{{"x":{}"#, "[".repeat(200));
    let objects = r#"{"x":"#.repeat(200);
    for (document, expected) in [
        (r#"{"x":nul}"#, "byte 8: '}' can't stand here"),
        (r#"{"x":"a\q"}"#, "byte 8: 'q' can't stand here"),
        (r#"{"x":-y}"#, "byte 6: 'y' can't stand here"),
        (r#"{"x":01}"#, "byte 6: '1' can't stand here"),
        (r#"{"x":-01}"#, "byte 7: '1' can't stand here"),
        (r#"{"x":1."#, "the record ends too early, at byte 7"),
        (r#"{"x":1e400}"#, "byte 5: a number beyond the range of a double"),
        (r#"{"x":"\ud800"}"#, "byte 6: half a surrogate pair"),
        (arrays.as_str(), "byte 104: nested deeper than 100"),
        (objects.as_str(), "byte 500: nested deeper than 100"),
    ] {
        assert_eq!(detail(document), expected, "{}", &document[..document.len().min(20)]);
    }
}

#[test]
fn a_wrong_type_says_what_was_found() {
    let event = |members: &str| {
        detail(&format!(r#"{{"id":"e","user":"u","ts":"2024-01-01T00:00:00Z",{members}}}"#))
    };
    for (members, expected) in [
        (
            r#""amount":"1\u0032""#,
            "column amount: a long is wanted and the string \"12\" was found",
        ),
        (r#""amount":true"#, "column amount: a long is wanted and true was found"),
        (r#""type":-5e1"#, "column step: a string is wanted and the number -5e1 was found"),
        (r#""type":[]"#, "column step: a string is wanted and an object or array was found"),
    ] {
        assert_eq!(event(members), expected);
    }
    let id = detail(r#"{"id":false}"#);
    assert_eq!(id, "the event id must be a string and false was found");
    let time = detail(r#"{"id":"e","user":"u","ts":{}}"#);
    let wanted = "the event time must be an RFC 3339 string and an object or array was found";
    assert_eq!(time, wanted);
}

#[test]
fn every_reason_of_the_required_fields() {
    for (document, expected) in [
        (r#"{"user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::MissingId),
        (r#"{"id":null,"user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::MissingId),
        (r#"{"id":"","user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::MissingId),
        (r#"{"id":1.5,"user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::WrongType),
        (r#"{"id":1e3,"user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::WrongType),
        (r#"{"id":true,"user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::WrongType),
        (r#"{"id":{},"user":"u","ts":"2024-01-01T00:00:00Z"}"#, Reason::WrongType),
        (r#"{"id":"e","ts":"2024-01-01T00:00:00Z"}"#, Reason::MissingUser),
        (r#"{"id":"e","user":"","ts":"2024-01-01T00:00:00Z"}"#, Reason::MissingUser),
        (r#"{"id":"e","user":["u"],"ts":"2024-01-01T00:00:00Z"}"#, Reason::WrongType),
        (r#"{"id":"e","user":"u"}"#, Reason::MissingTime),
        (r#"{"id":"e","user":"u","ts":null}"#, Reason::MissingTime),
        (r#"{"id":"e","user":"u","ts":""}"#, Reason::MissingTime),
        (r#"{"id":"e","user":"u","ts":"yesterday"}"#, Reason::BadTime),
        (r#"{"id":"e","user":"u","ts":"2024-01-01"}"#, Reason::BadTime),
        (r#"{"id":"e","user":"u","ts":1700000000}"#, Reason::WrongType),
        (r#"{"id":"e","user":"u","ts":"1969-12-31T23:59:59.9Z"}"#, Reason::OutOfRange),
        (r#"{"id":"e","user":"u","ts":"2200-01-01T00:00:00Z"}"#, Reason::OutOfRange),
    ] {
        assert_eq!(reason(document.as_bytes()), Some(expected), "{document}");
    }
    let interner = Arc::default();
    let (mut facts, mut letters) = (Vec::new(), Vec::new());
    decoder(TimeUnit::Rfc3339, &interner).decode(
        &batch(&[(Some(b"k"), None)]),
        0,
        |fact| facts.push(fact),
        &mut letters,
    );
    assert_eq!((letters[0].reason, letters[0].value.as_ref()), (Reason::EmptyPayload, None));
    assert_eq!((letters[0].key.as_deref(), letters[0].timestamp_ms), (Some(&b"k"[..]), 5));
}

#[test]
fn every_reason_of_the_columns() {
    for (members, expected) in [
        (r#","amount":9223372036854775807"#, None),
        (r#","amount":9223372036854775808"#, Some(Reason::OutOfRange)),
        (r#","amount":1.0e2"#, None),
        (r#","amount":1.5"#, Some(Reason::OutOfRange)),
        (r#","amount":"1""#, Some(Reason::WrongType)),
        (r#","amount":true"#, Some(Reason::WrongType)),
        (r#","price":99999999.99"#, None),
        (r#","price":"-0.10""#, None),
        (r#","price":100000000"#, Some(Reason::OutOfRange)),
        (r#","price":0.001"#, Some(Reason::OutOfRange)),
        (r#","price":"0.001""#, Some(Reason::OutOfRange)),
        (r#","price":"""#, Some(Reason::WrongType)),
        (r#","price":" 1""#, Some(Reason::WrongType)),
        (r#","price":[]"#, Some(Reason::WrongType)),
        (r#","type":5"#, Some(Reason::WrongType)),
        (r#","type":{}"#, Some(Reason::WrongType)),
        (r#","type":"""#, None),
        (r#","device":{"paid":"true"}"#, Some(Reason::WrongType)),
        (r#","device":{"paid":0}"#, Some(Reason::WrongType)),
        (r#","a/b":{"m~n":0}"#, Some(Reason::WrongType)),
        (r#","a/b":{"m~n":"soon"}"#, Some(Reason::BadTime)),
        (r#","a/b":{"m~n":"0000-01-01T00:00:00Z"}"#, Some(Reason::OutOfRange)),
        (r#","device":[{"paid":"true"}]"#, None),
        (r#","device":null"#, None),
        (r#","device":{"os":null}"#, None),
    ] {
        assert_eq!(refusal(members), expected, "{members}");
    }
}

#[test]
fn words_of_reasons_are_stable_and_differ() {
    let words = "empty_payload too_large invalid_utf8 not_json not_an_object trailing_bytes too_deep \
                 duplicate_key lone_surrogate missing_id missing_user missing_time missing_key wrong_type \
                 bad_time out_of_range";
    let all = [
        Reason::EmptyPayload,
        Reason::TooLarge,
        Reason::InvalidUtf8,
        Reason::NotJson,
        Reason::NotAnObject,
        Reason::TrailingBytes,
        Reason::TooDeep,
        Reason::DuplicateKey,
        Reason::LoneSurrogate,
        Reason::MissingId,
        Reason::MissingUser,
        Reason::MissingTime,
        Reason::MissingKey,
        Reason::WrongType,
        Reason::BadTime,
        Reason::OutOfRange,
    ];
    assert_eq!(all.map(Reason::as_str).join(" "), words);
}
