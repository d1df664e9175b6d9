//! A job file as it may be shown: without the secrets that stand in it.
//!
//! Messages show lines of the file. A secret that is written there in place of a reference must not be
//! shown with them, whatever is wrong with the file; it may not even be TOML. So this looks at the text
//! alone: what stands behind the name of a secret option becomes as many `*`. Places in the text stay what
//! they are.

use super::kafka_options::is_secret_option;

/// `text` with every secret covered.
pub(super) fn without_secrets(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (at, _) in text.match_indices('=') {
        if is_secret(name_before(&text[..at])) {
            let from = at + 1 + leading_blanks(&text[at + 1..]);
            cover(&mut bytes, text, from);
        }
    }
    // Whole values are covered, which end at borders of characters.
    String::from_utf8(bytes).unwrap_or_default()
}

/// True for the name of a secret option, also where only its end stands there (in a table of its own). The
/// names of columns have no dots, and `username` is a fine one.
fn is_secret(name: &str) -> bool {
    let ends = ["password", "passphrase", "secret"];
    is_secret_option(name) && (name.contains('.') || ends.iter().any(|end| name.contains(end)))
}

/// The name in front of a `=`, with its quotes and dots.
fn name_before(text: &str) -> &str {
    let line = text.rsplit(['\n', '{', ',']).next().unwrap_or_default();
    line.trim_matches([' ', '\t'])
}

fn leading_blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// Covers the value that begins at `from`.
fn cover(bytes: &mut [u8], text: &str, from: usize) {
    let rest = &text[from..];
    let quote = rest.chars().next().filter(|quote| ['"', '\''].contains(quote));
    let (start, length) = match quote {
        Some(quote) => {
            let long = quote.to_string().repeat(3);
            if let Some(inner) = rest.strip_prefix(&long) {
                (from + 3, inner.find(&long).unwrap_or(inner.len()))
            } else {
                (from + 1, end_of_string(&rest[1..], quote))
            }
        }
        // Not a string: wrong, and shown to be wrong, but not what it is.
        None => (from, rest.find('\n').unwrap_or(rest.len())),
    };
    let value = &text[start..start + length];
    if is_reference(value) {
        return;
    }
    for byte in &mut bytes[start..start + length] {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b'*';
        }
    }
}

/// Where a string on one line ends.
fn end_of_string(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if c == quote => return at,
            _ => {}
        }
    }
    text.len()
}

/// True for a single `${…}`, which is no secret.
fn is_reference(value: &str) -> bool {
    let inner = value.strip_prefix("${").and_then(|value| value.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(['$', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered_and_places_stay() {
        for (text, shown) in [
            ("'sasl.password' = \"hunter2\", x = 1", "'sasl.password' = \"*******\", x = 1"),
            ("sasl.password='hünter'", "sasl.password='*******'"),
            ("\"sasl\".\"password\" = \"a\\\"b\" }", "\"sasl\".\"password\" = \"****\" }"),
            ("{ ssl.key.password = 12345 }\nx = 1", "{ ssl.key.password = *******\nx = 1"),
            (
                "ssl.key.pem = \"\"\"\nab\ncd\"\"\"\nx = 1",
                "ssl.key.pem = \"\"\"\n**\n**\"\"\"\nx = 1",
            ),
            ("a = 'x', sasl.password = 'open\nx = 1", "a = 'x', sasl.password = '****\nx = 1"),
            ("sasl.password = \"${env:PASSWORD}\"", "sasl.password = \"${env:PASSWORD}\""),
            ("sasl.password = \"${env:A}b}\"", "sasl.password = \"**********\""),
            ("security.protocol = \"sasl_ssl\"", "security.protocol = \"sasl_ssl\""),
            ("password = 'x'", "password = '*'"),
            ("username = '/user/name'", "username = '/user/name'"),
            ("sasl.password =", "sasl.password ="),
        ] {
            assert_eq!(without_secrets(text), shown);
            assert_eq!(shown.len(), text.len());
        }
    }
}
