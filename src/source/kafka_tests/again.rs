//! Topics that are deleted and made again, on a real broker: known although all positions fit.

use std::time::{Duration, Instant};

use super::super::mark::Marks;
use super::super::{OpenOptions, Poll, Source, SourceError};
use super::*;

impl Topic {
    /// Deletes the topic and makes one of the same name.
    fn make_again(&self, partitions: i32) {
        block_on(self.admin.delete_topics(&[&*self.name], &AdminOptions::new())).expect("deleted");
        let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        let begun = Instant::now();
        loop {
            let made =
                block_on(self.admin.create_topics([&new], &AdminOptions::new())).expect("asked");
            if made.iter().all(Result::is_ok) {
                return;
            }
            assert!(begun.elapsed() < SOON, "{made:?}");
        }
    }
}

/// Reads to the end: the positions, and the marks that a commit would save.
fn read_with_marks(source: &mut KafkaSource) -> (Offsets, Marks) {
    let (mut next, mut marks) = (source.start(), Marks::new());
    loop {
        match source.poll(Duration::from_millis(100)).expect("polls") {
            Poll::Batch(batch) => {
                marks.extend(batch.mark().map(|mark| (batch.partition, mark)));
                next.insert(batch.partition, batch.next);
            }
            Poll::Advanced { partition, next: to } => drop(next.insert(partition, to)),
            Poll::Idle => {}
            Poll::End => return (next, marks),
        }
    }
}

#[test]
fn a_topic_that_was_made_again_is_known_though_the_position_fits() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 3);
    let producer = topic.producer(false);
    topic.send(&producer, 0, 20, "x");
    topic.send(&producer, 1, 5, "x");
    let (next, marks) = read_with_marks(&mut topic.open(&options()));
    assert_eq!(marks.keys().copied().collect::<Vec<_>>(), [0, 1], "nothing was read of the third");
    topic.send(&producer, 0, 10, "more");
    let mut again = topic.open(&saved(next.clone()));
    assert!(!again.verify(&mut marks.clone()).expect("the same topic"));
    assert_eq!(read(&mut again).0[&0].len(), 10, "reading goes on after the comparison");

    // The same records, and more of them, at other times.
    topic.make_again(3);
    let producer = topic.producer(false);
    topic.send(&producer, 0, 40, "x");
    topic.send(&producer, 1, 40, "x");
    let begun = Instant::now();
    match topic.open(&saved(next.clone())).verify(&mut marks.clone()) {
        Err(SourceError::Loss(text)) => {
            for word in [&*topic.name, "partition 0", "offset 19", "offset 20", "--accept-loss"] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < SOON);
    let accepting = OpenOptions { accept_loss: true, ..saved(next) };
    let (mut source, mut marks) = (topic.open(&accepting), marks);
    assert!(source.verify(&mut marks).expect("accepted"));
    assert_eq!(marks, Marks::new(), "what was accepted is settled");
    assert_eq!(read(&mut source).0[&0].len(), 20, "on at the saved offset");
}

#[test]
fn a_record_that_is_gone_proves_nothing() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 2);
    let producer = topic.producer(false);
    topic.send(&producer, 0, 20, "x");
    topic.send(&producer, 1, 20, "x");
    let (next, marks) = read_with_marks(&mut topic.open(&options()));
    topic.send(&producer, 0, 5, "y");
    // All that was read is deleted: of one partition with records after it, of the other with none.
    topic.delete_below(0, 20);
    topic.delete_below(1, 20);
    let mut source = topic.open(&saved(next));
    assert!(!source.verify(&mut marks.clone()).expect("trusted"));
    assert_eq!(read(&mut source).0[&0].len(), 5);
}

#[test]
fn a_position_that_was_set_back_has_no_mark() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 1);
    topic.send(&topic.producer(false), 0, 20, "x");
    let (_, marks) = read_with_marks(&mut topic.open(&options()));
    topic.make_again(1);
    topic.send(&topic.producer(false), 0, 6, "x");
    let accepting = OpenOptions { accept_loss: true, ..saved([(0, 20)]) };
    let (mut source, mut marks) = (topic.open(&accepting), marks);
    assert!(source.verify(&mut marks).expect("accepted"));
    assert!(marks.is_empty());
}

#[test]
fn a_topic_that_is_made_again_while_it_is_followed_is_a_loss() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 1);
    topic.send(&topic.producer(false), 0, 5, "old");
    let mut source = topic.open(&OpenOptions { follow: true, ..options() });
    assert_eq!(batch_of(&mut source, 0).next, 5);
    topic.make_again(1);
    // More than there was: the position lies inside.
    topic.send(&topic.producer(false), 0, 50, "new");
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < SOON + SOON / 2, "never known");
        match source.poll(Duration::from_millis(100)) {
            Ok(Poll::Idle) => {}
            Err(SourceError::Loss(text)) => {
                for word in [&*topic.name, "made again", "its id was", "0: 5", "--accept-loss"] {
                    assert!(text.contains(word), "{word}: {text}");
                }
                break;
            }
            // A look in the moment between the two.
            Err(SourceError::Refused(text)) => {
                assert!(text.contains("does not exist"), "{text}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_client_reads_on_where_the_one_without_an_answer_stood() {
    let Some(brokers) = brokers() else { return };
    let topic = Topic::new(&brokers, 2);
    (0..2).for_each(|partition| topic.send(&topic.producer(false), partition, 20_000, "v"));
    // The source's clock is put forward by half a minute, in which it may hear nothing.
    let patience = Duration::from_secs(60);
    let mut source = topic.open(&OpenOptions { connect_timeout: patience, ..options() });
    let mut read = BTreeMap::<i32, Vec<i64>>::new();
    let mut polls = 0;
    loop {
        match source.poll(Duration::from_millis(100)).expect("polls") {
            Poll::Batch(batch) => {
                let offsets = values(&batch).map(|(offset, _)| offset);
                read.entry(batch.partition).or_default().extend(offsets);
            }
            Poll::End => break,
            _ => {}
        }
        polls += 1;
        if polls < 4 {
            source.stay_unanswered().expect("another client");
        }
    }
    for partition in 0..2 {
        assert_eq!(read[&partition], (0..20_000).collect::<Vec<_>>(), "partition {partition}");
    }
}
