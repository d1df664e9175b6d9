//! Whose code is in the binary, and under which terms.

use std::process::Command;

use serde_json::Value;

/// Terms that ask for no more than to be named.
const ACCEPTED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_dependency_has_accepted_terms_and_comes_from_a_registry() {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--locked", "--offline", "--format-version", "1"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Why a package can't be depended on.
fn refusal(package: &Value) -> Option<String> {
    let name = format!("{} {}", package["name"], package["version"]);
    let own = package["name"] == env!("CARGO_PKG_NAME");
    let from_registry =
        package["source"].as_str().is_some_and(|source| source.starts_with("registry+"));
    if !own && !from_registry {
        return Some(format!("{name} comes from {}", package["source"]));
    }
    let terms = package["license"].as_str().unwrap_or("none");
    let accepted = spdx::Expression::parse_mode(terms, spdx::ParseMode::LAX).is_ok_and(|terms| {
        terms.evaluate(|required| {
            required.license.id().is_some_and(|licence| ACCEPTED.contains(&licence.name))
        })
    });
    (!accepted).then(|| format!("{name} has the terms {terms}"))
}
