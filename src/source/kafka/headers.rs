//! Headers of a record as text: a JSON array of `["name", "base64 of the value" or null]`.

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes the headers of `message` into `text`, which is emptied first; `None` for a message without any.
pub(super) fn write<'a>(message: &BorrowedMessage<'_>, text: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let headers = message.headers()?;
    text.clear();
    text.push(b'[');
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        pair(header.key, header.value, text);
    }
    text.push(b']');
    Some(text)
}

fn pair(name: &str, value: Option<&[u8]>, text: &mut Vec<u8>) {
    text.push(b'[');
    serde_json::to_writer(&mut *text, name)
        .expect("text always encodes, and a vector takes all of it");
    text.push(b',');
    match value {
        None => text.extend_from_slice(b"null"),
        Some(value) => {
            text.push(b'"');
            base64(value, text);
            text.push(b'"');
        }
    }
    text.push(b']');
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8], text: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .enumerate()
            .fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for digit in 0..4 {
            let known = digit <= group.len();
            text.push(if known {
                ALPHABET[(word >> (18 - 6 * digit)) as usize & 63]
            } else {
                b'='
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut text = Vec::new();
            base64(plain.as_bytes(), &mut text);
            assert_eq!(text, coded.as_bytes(), "{plain}");
        }
    }

    #[test]
    fn names_are_escaped_and_null_is_not_empty() {
        let mut text = Vec::new();
        pair("a\"b", None, &mut text);
        pair("c", Some(&[0xff, 0x00]), &mut text);
        assert_eq!(text, br#"["a\"b",null]["c","/wA="]"#);
    }
}
