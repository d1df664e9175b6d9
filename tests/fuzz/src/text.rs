//! Job files and cuts.

use std::path::Path;

use tidewater::job::{FactLayout, parse};
use tidewater::source::Cut;

/// A job file is read, or each mistake in it is shown at its place.
pub(super) fn job(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    // References name files of this machine.
    if text.contains("${file:") {
        return false;
    }
    let env = |name: &str| (name == "A").then(|| "a value".to_owned());
    match parse(text, "job.toml", Path::new("/nowhere"), &env) {
        Ok(job) => {
            let layout = FactLayout::new(&job.events, &job.aggregates, &job.funnels);
            assert!(layout.is_ok(), "a valid job has no layout: {layout:?}");
            assert!(!format!("{job:?}").is_empty());
        }
        Err(error) => {
            assert!(!error.mistakes().is_empty());
            assert!(!error.render(true).is_empty() && !error.to_string().is_empty());
        }
    }
    true
}

/// A cut has one text.
pub(super) fn cut(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    if let Ok(cut) = Cut::decode(text) {
        assert_eq!(cut.encode(), text);
        let positions = cut.topics().flat_map(|(_, offsets)| offsets);
        positions.for_each(|(partition, offset)| assert!(*partition >= 0 && *offset >= 0));
    }
    true
}
