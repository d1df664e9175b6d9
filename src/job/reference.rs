//! `${env:NAME}` and `${file:PATH}` in the strings of a job file.
//!
//! What a reference stands for may be a secret: messages name the reference, never the value.

use std::path::Path;

use super::error::Mistake;

/// Looks up an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the references in `written`. Replaced text is not looked at again.
pub(super) fn replace(written: &str, base: &Path, env: Env<'_>) -> Result<String, Mistake> {
    let mut value = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, reference)) = rest.split_once("${") {
        value.push_str(before);
        let Some((reference, after)) = reference.split_once('}') else {
            return Err(Mistake::new("a reference `${` has no closing `}`").help(FORMS));
        };
        value.push_str(&look_up(reference, base, env)?);
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

const FORMS: &str = "references are `${env:NAME}` and `${file:PATH}`";

fn look_up(reference: &str, base: &Path, env: Env<'_>) -> Result<String, Mistake> {
    match reference.split_once(':') {
        Some(("env", name)) if !name.is_empty() => env(name).ok_or_else(|| {
            Mistake::new(format!("the environment variable {name} is not set or not UTF-8"))
                .help(format!("set it before the start, as in `{name}=… tidewater run …`"))
        }),
        Some(("file", path)) if !path.is_empty() => {
            match std::fs::read_to_string(base.join(path)) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(Mistake::new(format!("the file {path} can't be read: {error}"))
                    .help("paths are relative to the folder of the job file")),
            }
        }
        _ => Err(Mistake::new(format!("`${{{reference}}}` is not a known reference")).help(FORMS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "A").then(|| "one ${env:A}".into())
    }

    #[test]
    fn references_are_replaced_once_and_files_lose_their_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "two\n").unwrap();
        let value = replace("<${env:A}|${file:secret}>", folder.path(), &env).unwrap();
        assert_eq!(value, "<one ${env:A}|two>");
        assert_eq!(replace("plain $5 {x}", folder.path(), &env).unwrap(), "plain $5 {x}");
    }

    #[test]
    fn what_can_not_be_replaced_is_named() {
        let message = |text: &str| replace(text, Path::new("."), &env).unwrap_err().to_string();
        assert_eq!(message("${env:B}"), "the environment variable B is not set or not UTF-8");
        assert!(message("${file:no/such}").starts_with("the file no/such can't be read: "));
        assert_eq!(message("${vault:x}"), "`${vault:x}` is not a known reference");
        assert_eq!(message("${env:}"), "`${env:}` is not a known reference");
        assert_eq!(message("${env:A"), "a reference `${` has no closing `}`");
    }
}
