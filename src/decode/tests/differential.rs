//! What serde_json says about a document, where the extractor is asked for the same pointers.

use super::*;

const PATHS: [&str; 6] = ["/a", "/b/c", "/b/d", "/b", "/e/f/g", "/e/\"~1\u{e9}"];

/// Whatever serde_json refuses must be refused; whatever is accepted must have serde_json's values.
fn compare(extractor: &mut Extractor, document: &str) -> Result<(), TestCaseError> {
    let cells: Vec<_> = PATHS.iter().map(|path| extractor.want(&pointer(path))).collect();
    let ours = extractor.extract(document);
    let theirs: Result<Json, _> = serde_json::from_str(document);
    let Ok(theirs) = theirs else {
        prop_assert!(ours.is_err(), "serde_json refuses {document}");
        return Ok(());
    };
    match ours {
        Ok(()) => prop_assert!(theirs.is_object()),
        Err(fault) => {
            let own = [Reason::DuplicateKey, Reason::NotAnObject, Reason::TooDeep];
            prop_assert!(own.contains(&fault.reason), "{fault:?} in {document}");
            if fault.reason == Reason::DuplicateKey {
                // A member stands behind a colon, and serde_json keeps one of each key.
                prop_assert!(members(&theirs) < document.matches(':').count(), "{document}");
            }
            return Ok(());
        }
    }
    for (path, cell) in PATHS.iter().zip(cells) {
        let expected =
            pointer(path).0.iter().try_fold(&theirs, |value, token| value.as_object()?.get(token));
        match (extractor.cell(cell), expected) {
            (Cell::Missing, None) | (Cell::Null, Some(Json::Null)) => {}
            (Cell::Nested, Some(Json::Object(_) | Json::Array(_))) => {}
            (Cell::Boolean(ours), Some(Json::Bool(theirs))) => prop_assert_eq!(ours, *theirs),
            (Cell::String(ours), Some(Json::String(theirs))) => {
                prop_assert_eq!(extractor.text(document, ours), theirs);
            }
            (Cell::Number(ours), Some(Json::Number(theirs))) => {
                let ours: f64 = extractor.text(document, ours).parse().unwrap();
                let theirs = theirs.as_f64().unwrap();
                prop_assert!((ours - theirs).abs() <= theirs.abs() * 1e-12, "{ours} {theirs}");
            }
            (ours, theirs) => {
                prop_assert!(false, "{path}: {ours:?} and {theirs:?} in {document}")
            }
        }
    }
    Ok(())
}

/// The members of all objects in a value.
fn members(value: &Json) -> usize {
    match value {
        Json::Array(values) => values.iter().map(members).sum(),
        Json::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        _ => 0,
    }
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "\"/é"]).prop_map(String::from),
        1 => "[a-z\\\\\"\u{e9}\u{1f600}]{0,9}",
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        "[a-z0-9]{0,40}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            4 => prop::collection::hash_map(key(), inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes a document with escapes, white space and an order of its own, drawn from `noise`.
fn write(value: &Json, noise: &mut impl Iterator<Item = u8>, out: &mut String) {
    let space = |noise: &mut dyn Iterator<Item = u8>, out: &mut String| {
        out.push_str(
            ["", "", "", " ", "\n", "\t ", "", "\r"][usize::from(noise.next().unwrap_or(0) % 8)],
        );
    };
    space(noise, out);
    match value {
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if noise.next().is_some_and(|byte| byte % 3 == 0) {
                members.reverse();
            }
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                space(noise, out);
                write_text(key, noise, out);
                space(noise, out);
                out.push(':');
                write(value, noise, out);
            }
            out.push('}');
        }
        Json::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(element, noise, out);
            }
            out.push(']');
        }
        Json::String(text) => write_text(text, noise, out),
        other => out.push_str(&other.to_string()),
    }
    space(noise, out);
}

fn write_text(text: &str, noise: &mut impl Iterator<Item = u8>, out: &mut String) {
    if noise.next().is_some_and(|byte| byte % 4 == 0) {
        out.push('"');
        text.encode_utf16().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        out.push('"');
    } else {
        out.push_str(&Json::from(text).to_string());
    }
}

/// Replaces, removes, repeats or inserts some bytes.
fn mutate(document: &str, changes: &[(u16, u8)]) -> Vec<u8> {
    const BYTES: &[u8] = b"\"\\{}[]:,0123456789.eE+-tfnu \n\x00\x1f\x7f\xc3\xa9a";
    let mut bytes = document.as_bytes().to_vec();
    for (place, change) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = usize::from(*place) % bytes.len();
        let byte = BYTES[usize::from(*change / 4) % BYTES.len()];
        match change % 4 {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 => drop(bytes.remove(place)),
            _ => {
                let end = (place + usize::from(*change)).min(bytes.len());
                let copy = bytes[place..end].to_vec();
                bytes.splice(place..place, copy);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn documents_have_the_same_values_and_mutants_the_same_verdict(
        values in prop::collection::vec(json(), 1..4),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4),
        places in prop::collection::vec(0usize..4, 1..10),
    ) {
        // One extractor for all: what it learns from one document must not change the next.
        let mut extractor = Extractor::new();
        for value in &values {
            let mut document = String::new();
            write(value, &mut noise.iter().copied(), &mut document);
            compare(&mut extractor, &document)?;
            for place in &places {
                let mutant = mutate(&document, &changes[..changes.len().min(*place)]);
                if let Ok(mutant) = std::str::from_utf8(&mutant) {
                    compare(&mut extractor, mutant)?;
                }
            }
        }
    }

    #[test]
    fn any_key_that_stands_twice_is_found(
        keys in prop::collection::hash_set("[a-z]{1,6}", 2..120),
        twice in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        prefix in prop::sample::select(vec!["", "[", "{\"b\":", "{\"new\":"]),
    ) {
        let mut keys: Vec<_> = keys.into_iter().collect();
        let mut extractor = Extractor::new();
        let cell = extractor.want(&pointer("/b/c"));
        let write = |keys: &[String]| {
            let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":1")).collect();
            let close = match prefix { "" => "", "[" => "]", _ => "}" };
            format!("{{\"x\":{prefix}{{{}}}{close}}}", members.join(","))
        };
        prop_assert_eq!(extractor.extract(&write(&keys)), Ok(()));
        prop_assert_eq!(extractor.cell(cell), Cell::Missing);
        let key = keys[twice.index(keys.len())].clone();
        keys.insert(place.index(keys.len()), key);
        let fault = extractor.extract(&write(&keys)).map_err(|fault| fault.reason);
        prop_assert_eq!(fault, Err(Reason::DuplicateKey));
    }
}
