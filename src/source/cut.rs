//! A cut: topic and partition to the offset of the next record to read. A commit's cut says what its tables
//! contain, and it is where the next run reads on.
//!
//! Its text is compact JSON with sorted keys, `{"events":{"0":188234112},"users":{"0":15000000}}`. A cut has
//! exactly one text: any other spelling is refused, so two cuts are equal where their texts are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Offsets;

/// Topic → partition → offset of the next record to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cut(BTreeMap<String, Offsets>);

/// Why a text is not a cut.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CutError {
    /// Not JSON of the right shape.
    #[error("not a cut (topic to partition to offset, as JSON): {0}")]
    Shape(String),
    /// JSON of the right shape that the encoder would never write.
    #[error(
        "not a cut in its one form: it reads as `{canonical}`, so something else wrote or changed it"
    )]
    Spelling {
        /// The text that the encoder would have written.
        canonical: String,
    },
    /// A partition or an offset below zero.
    #[error("not a cut: topic {topic}, partition {partition} stands at {offset}, below zero")]
    Negative {
        /// The topic.
        topic: String,
        /// The Kafka partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
}

impl Cut {
    /// The positions in `topic`; empty for a topic that the cut doesn't know.
    pub fn offsets(&self, topic: &str) -> Offsets {
        self.0.get(topic).cloned().unwrap_or_default()
    }

    /// Topics with their positions, sorted.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &Offsets)> {
        self.0.iter().map(|(topic, offsets)| (topic.as_str(), offsets))
    }

    /// Moves one position forward to `next`; a position that is further already stays.
    pub fn advance(&mut self, topic: &str, partition: i32, next: i64) {
        let offsets = match self.0.get_mut(topic) {
            Some(offsets) => offsets,
            None => self.0.entry(topic.to_owned()).or_default(),
        };
        let position = offsets.entry(partition).or_insert(next);
        *position = next.max(*position);
    }

    /// Replaces the positions of `topic`: where a source starts, which an accepted loss may set back.
    pub fn set(&mut self, topic: &str, offsets: Offsets) {
        self.0.insert(topic.to_owned(), offsets);
    }

    /// The one text of this cut.
    pub fn encode(&self) -> String {
        serde_json::to_string(&self.0).expect("maps of integers under text keys always encode")
    }

    /// Reads what [`Cut::encode`] wrote.
    pub fn decode(text: &str) -> Result<Cut, CutError> {
        let cut: Cut =
            serde_json::from_str(text).map_err(|error| CutError::Shape(error.to_string()))?;
        for (topic, offsets) in cut.topics() {
            if let Some((&partition, &offset)) =
                offsets.iter().find(|&(&partition, &offset)| partition < 0 || offset < 0)
            {
                return Err(CutError::Negative { topic: topic.to_owned(), partition, offset });
            }
        }
        let canonical = cut.encode();
        if canonical == text { Ok(cut) } else { Err(CutError::Spelling { canonical }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cuts() -> impl Strategy<Value = Cut> {
        let offsets = prop::collection::btree_map(0..i32::MAX, 0..i64::MAX, 0..12);
        prop::collection::btree_map("\\PC{0,12}", offsets, 0..4).prop_map(Cut)
    }

    proptest! {
        #[test]
        fn a_cut_reads_back_as_it_was_written(cut in cuts()) {
            prop_assert_eq!(Cut::decode(&cut.encode()), Ok(cut));
        }

        #[test]
        fn changed_text_is_refused_or_is_the_text_of_another_cut(
            cut in cuts(), at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f,
        ) {
            let text = cut.encode();
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(changed) = String::from_utf8(bytes)
                && let Ok(read) = Cut::decode(&changed)
            {
                prop_assert_eq!(read.encode(), changed.clone());
                prop_assert_eq!(read == cut, changed == text);
            }
        }

        #[test]
        fn cut_short_or_with_a_byte_more_it_is_refused(cut in cuts(), at in any::<prop::sample::Index>()) {
            let text = cut.encode();
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            prop_assert!(Cut::decode(&text[..at]).is_err());
            for more in [" ", "}"] {
                prop_assert!(Cut::decode(&(text.clone() + more)).is_err());
            }
        }
    }

    #[test]
    fn the_text_is_that_of_the_design() {
        let mut cut = Cut::default();
        cut.advance("users", 0, 15_000_000);
        cut.advance("events", 10, 7);
        cut.advance("events", 2, 188_234_112);
        cut.advance("events", 2, 5);
        let text = r#"{"events":{"2":188234112,"10":7},"users":{"0":15000000}}"#;
        assert_eq!(cut.encode(), text);
        assert_eq!(Cut::decode(text), Ok(cut));
        assert_eq!(Cut::decode("{}"), Ok(Cut::default()));
        let start = r#"{"events":{"0":0}}"#;
        assert_eq!(Cut::decode(start).map(|cut| cut.encode()).as_deref(), Ok(start));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "null",
            "[]",
            r#"{"events":{"0": 1}}"#,
            r#"{"events":{"00":1}}"#,
            r#"{"events":{"0":1.0}}"#,
            r#"{"events":{"0":"1"}}"#,
            r#"{"events":{"-1":1}}"#,
            r#"{"events":{"0":-1}}"#,
            r#"{"events":{"0":1,"0":2}}"#,
            r#"{"events":{"10":1,"2":2}}"#,
            r#"{"b":{},"a":{}}"#,
            r#"{"events":{"0":9223372036854775808}}"#,
        ] {
            assert!(Cut::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_accepted_loss_can_set_a_position_back() {
        let mut cut = Cut::default();
        cut.advance("events", 0, 10);
        cut.set("events", Offsets::from([(0, 4)]));
        assert_eq!(cut.offsets("events"), Offsets::from([(0, 4)]));
        assert_eq!(cut.offsets("users"), Offsets::new());
    }
}
