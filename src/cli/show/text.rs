//! Values as text: for people, as CSV, and as JSON lines.
//!
//! Timestamps are RFC 3339 in UTC, decimals have their point. Bytes are shown as the text they are, with
//! `\xNN` for what is not UTF-8. NULL is `NULL` for people, nothing in CSV (where an empty text is `""`),
//! and `null` in JSON, where decimals are strings: most readers would round a number.

use std::io::{self, Write};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Longer texts are cut for people.
const CELL_CHARS_MAX: usize = 48;

/// Whether a text is shown as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Every character.
    Exact,
    /// On one line, and cut where it is long.
    Short,
}

/// The values of a column as text.
pub(super) struct ColumnText<'a> {
    column: &'a dyn Array,
    formatter: ArrayFormatter<'a>,
    look: Look,
}

impl<'a> ColumnText<'a> {
    pub(super) fn new(column: &'a dyn Array, look: Look) -> Result<Self, ArrowError> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(column, &OPTIONS)?;
        Ok(ColumnText { column, formatter, look })
    }

    /// The text of a value; `None` is NULL.
    pub(super) fn cell(&self, row: usize) -> Option<String> {
        if self.column.is_null(row) {
            return None;
        }
        let text = match self.column.as_binary_opt::<i32>() {
            Some(bytes) => bytes_text(bytes.value(row)),
            None => self.formatter.value(row).to_string(),
        };
        Some(if self.look == Look::Short { shortened(&text) } else { text })
    }
}

/// Bytes as the text they are.
fn bytes_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A text on one line, cut where it is long.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for (place, c) in text.chars().enumerate() {
        if place == CELL_CHARS_MAX {
            short.push('…');
            break;
        }
        if c.is_control() { short.extend(c.escape_default()) } else { short.push(c) }
    }
    short
}

/// The columns of a batch as text.
fn columns_of(batch: &RecordBatch, look: Look) -> Result<Vec<ColumnText<'_>>, ArrowError> {
    batch.columns().iter().map(|column| ColumnText::new(column, look)).collect()
}

/// A table for people with these headers; columns that are `right` hold numbers.
pub(in crate::cli) fn people_table<S: AsRef<str>>(headers: &[S], right: &[bool]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Rows keep to one line, however narrow the terminal: they can be searched and cut.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().map(AsRef::as_ref));
    for (column, right) in table.column_iter_mut().zip(right) {
        if *right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Whether values of this type are numbers.
pub(super) fn is_number(kind: &DataType) -> bool {
    matches!(kind, DataType::Int32 | DataType::Int64 | DataType::Decimal128(..))
}

/// Adds the rows of a batch to a table for people.
pub(in crate::cli) fn add_rows(table: &mut Table, batch: &RecordBatch) -> Result<(), ArrowError> {
    let columns = columns_of(batch, Look::Short)?;
    for row in 0..batch.num_rows() {
        let cell = |column: &ColumnText<'_>| column.cell(row).unwrap_or_else(|| "NULL".to_owned());
        table.add_row(columns.iter().map(cell));
    }
    Ok(())
}

/// Writes the rows of a batch as CSV.
pub(super) fn write_csv(out: &mut dyn Write, batch: &RecordBatch) -> anyhow::Result<()> {
    let columns = columns_of(batch, Look::Exact)?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter().map(|column| column.cell(row));
        csv_line(out, cells)?;
    }
    Ok(())
}

/// Writes a line of CSV.
pub(in crate::cli) fn csv_line(
    out: &mut dyn Write,
    cells: impl Iterator<Item = Option<String>>,
) -> io::Result<()> {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.write_all(b",")?;
        }
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => {
                write!(out, "\"{}\"", text.replace('"', "\"\""))?;
            }
            Some(text) => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

/// Writes the rows of a batch as JSON, one object a line.
pub(super) fn write_json(out: &mut dyn Write, batch: &RecordBatch) -> anyhow::Result<()> {
    let columns = columns_of(batch, Look::Exact)?;
    let names = batch.schema();
    for row in 0..batch.num_rows() {
        for (place, column) in columns.iter().enumerate() {
            let field = names.field(place);
            out.write_all(if place == 0 { b"{" } else { b"," })?;
            write!(out, "{}:", serde_json::to_string(field.name())?)?;
            match (column.cell(row), field.data_type()) {
                (None, _) => out.write_all(b"null")?,
                (Some(text), DataType::Int32 | DataType::Int64 | DataType::Boolean) => {
                    out.write_all(text.as_bytes())?;
                }
                (Some(text), _) => out.write_all(serde_json::to_string(&text)?.as_bytes())?,
            }
        }
        out.write_all(b"}\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    /// A row of plain values, one of awkward ones, one of NULLs.
    fn batch() -> RecordBatch {
        let times = TimestampMicrosecondArray::from(vec![Some(0), Some(1_500_000), None]);
        let sums = Decimal128Array::from(vec![Some(-1_205), Some(5), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("at", Arc::new(times.with_timezone("+00:00"))),
            ("s", Arc::new(sums.with_precision_and_scale(38, 2).unwrap())),
            ("n", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(0), None]))),
            ("ok", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("t", Arc::new(StringArray::from(vec![Some("eu"), Some(""), None]))),
            ("b", Arc::new(BinaryArray::from(vec![Some(&b"a\xff\n\"b"[..]), Some(b""), None]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap()
    }

    fn written(write: impl Fn(&mut dyn Write) -> anyhow::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_tells_null_from_empty_text_and_quotes_what_needs_it() {
        insta::assert_snapshot!(written(|out| write_csv(out, &batch())), @r#"
        1970-01-01T00:00:00Z,-12.05,-9223372036854775808,true,eu,"a\xff
        ""b"
        1970-01-01T00:00:01.500Z,0.05,0,false,"",""
        ,,,,,
        "#);
    }

    #[test]
    fn json_has_an_object_a_line_and_exact_decimals() {
        insta::assert_snapshot!(written(|out| write_json(out, &batch())), @r#"
    {"at":"1970-01-01T00:00:00Z","s":"-12.05","n":-9223372036854775808,"ok":true,"t":"eu","b":"a\\xff\n\"b"}
    {"at":"1970-01-01T00:00:01.500Z","s":"0.05","n":0,"ok":false,"t":"","b":""}
    {"at":null,"s":null,"n":null,"ok":null,"t":null,"b":null}
    "#);
    }

    #[test]
    fn people_see_numbers_on_the_right_and_one_line_a_row() {
        let batch = batch();
        let schema = batch.schema();
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        let right: Vec<bool> =
            schema.fields().iter().map(|field| is_number(field.data_type())).collect();
        let mut table = people_table(&names, &right);
        add_rows(&mut table, &batch).unwrap();
        insta::assert_snapshot!(table.to_string(), @r#"
        ┌──────────────────────────┬────────┬──────────────────────┬───────┬──────┬───────────┐
        │ at                       ┆      s ┆                    n ┆ ok    ┆ t    ┆ b         │
        ╞══════════════════════════╪════════╪══════════════════════╪═══════╪══════╪═══════════╡
        │ 1970-01-01T00:00:00Z     ┆ -12.05 ┆ -9223372036854775808 ┆ true  ┆ eu   ┆ a\xff\n"b │
        │ 1970-01-01T00:00:01.500Z ┆   0.05 ┆                    0 ┆ false ┆      ┆           │
        │ NULL                     ┆   NULL ┆                 NULL ┆ NULL  ┆ NULL ┆ NULL      │
        └──────────────────────────┴────────┴──────────────────────┴───────┴──────┴───────────┘
        "#);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = "ü".repeat(CELL_CHARS_MAX + 1);
        assert_eq!(shortened(&long), "ü".repeat(CELL_CHARS_MAX) + "…");
        assert_eq!(shortened(&long[2..]), "ü".repeat(CELL_CHARS_MAX));
        assert_eq!(shortened("a\tb"), "a\\tb");
    }
}
