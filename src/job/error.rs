//! What is wrong in a job file, each mistake shown at its place.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use super::hidden::without_secrets;

/// Columns at which a report is wrapped.
const REPORT_WIDTH: usize = 100;

/// Why a job file is refused: all its mistakes at once, in the order of the file.
///
/// `Display` is the whole report without colours: message, file, line, column, a caret under the culprit
/// and what to do. It shows lines of the file as they are written, so a `${env:…}` stays a reference;
/// secrets that stand in the file itself are covered.
#[derive(Clone)]
pub struct JobError {
    file_name: String,
    mistakes: Vec<Mistake>,
}

impl JobError {
    /// The mistakes found in `text`.
    pub(super) fn new(file_name: &str, text: &str, mut mistakes: Vec<Mistake>) -> JobError {
        let text = Arc::new(NamedSource::new(file_name, without_secrets(text)));
        mistakes.sort_by_key(|mistake| mistake.labels.first().map(LabeledSpan::offset));
        for mistake in &mut mistakes {
            mistake.text = Some(Arc::clone(&text));
        }
        JobError { file_name: file_name.to_owned(), mistakes }
    }

    /// The mistakes, each a diagnostic of its own.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// The whole report, with ANSI colours if asked for.
    pub fn render(&self, colours: bool) -> String {
        let theme = match colours {
            true => GraphicalTheme::unicode(),
            false => GraphicalTheme::unicode_nocolor(),
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(REPORT_WIDTH)
            .without_syntax_highlighting();
        let mut report = String::new();
        for mistake in &self.mistakes {
            if handler.render_report(&mut report, mistake).is_err() {
                report.push_str(&mistake.message);
            }
            report.push('\n');
        }
        if self.mistakes.len() > 1 {
            report.push_str(&format!("{} mistakes in {}\n", self.mistakes.len(), self.file_name));
        }
        report.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for JobError {}

/// One mistake in a job file.
#[derive(Debug, Clone)]
pub struct Mistake {
    message: String,
    help: Option<String>,
    labels: Vec<LabeledSpan>,
    text: Option<Arc<NamedSource<String>>>,
}

impl Mistake {
    /// A mistake without a place yet.
    pub(super) fn new(message: impl Into<String>) -> Mistake {
        Mistake { message: message.into(), help: None, labels: Vec::new(), text: None }
    }

    /// What to do about it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }

    /// Where it is.
    pub(super) fn at(mut self, span: Range<usize>) -> Mistake {
        self.labels.insert(0, LabeledSpan::new_primary_with_span(Some("here".into()), span));
        self
    }

    /// What else in the file has to do with it.
    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Mistake {
        self.labels.push(LabeledSpan::at(span, label));
        self
    }

    /// Names the nearest of the known names, or lists them all.
    pub(super) fn suggest<S: AsRef<str>>(self, what: &str, name: &str, known: &[S]) -> Mistake {
        if let Some(nearest) = nearest(name, known) {
            return self.help(format!("did you mean `{nearest}`?"));
        }
        let known: Vec<_> = known.iter().map(|name| format!("`{}`", name.as_ref())).collect();
        match known.is_empty() {
            true => self.help(format!("there are no {what}")),
            false => self.help(format!("the {what} are {}", known.join(", "))),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.text.as_deref().map(|text| text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self.labels.is_empty() {
            true => None,
            false => Some(Box::new(self.labels.iter().cloned())),
        }
    }
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest<'a, S: AsRef<str>>(name: &str, known: &'a [S]) -> Option<&'a str> {
    let plain = plain(name);
    let distance = |other: &str| strsim::damerau_levenshtein(&plain, &self::plain(other));
    let limit = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|other| (distance(other.as_ref()), other.as_ref()))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, other)| other)
}

/// How names are compared when looking for the nearest: without case, dashes as underscores.
fn plain(name: &str) -> Cow<'_, str> {
    match name.chars().all(|c| c.is_lowercase() || c == '_') {
        true => Cow::Borrowed(name),
        false => Cow::Owned(name.to_lowercase().replace('-', "_")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["window", "group_by", "name"];
        assert_eq!(nearest("windo", &known), Some("window"));
        assert_eq!(nearest("Group-By", &known), Some("group_by"));
        assert_eq!(nearest("groupby", &known), Some("group_by"));
        assert_eq!(nearest("measures", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
