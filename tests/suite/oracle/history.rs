//! Random histories: what is appended to the topics before each run.
//!
//! The copies of an id: the first one in every partition has the same content, so that the winner's content
//! does not depend on which partition is read first; conflicting copies follow behind it in its home
//! partition.

use std::fmt::Write;

use super::super::fixture::Fixture;
use super::super::random::Random;

/// Event records that can't be decoded, and a few that look as if.
const BAD_EVENTS: [&[u8]; 16] = [
    b"",
    b"   ",
    b"[1, 2]",
    b"\"text\"",
    b"{\"id\": \"x\", \"user\": ",
    b"{\"id\": \"x\"} {}",
    b"{\"user\": \"u1\", \"ts\": \"2026-01-01T00:00:00Z\"}",
    b"{\"id\": \"\", \"user\": \"u1\", \"ts\": \"2026-01-01T00:00:00Z\"}",
    b"{\"id\": \"b1\", \"ts\": \"2026-01-01T00:00:00Z\"}",
    b"{\"id\": \"b2\", \"user\": \"u1\"}",
    b"{\"id\": \"b3\", \"user\": \"u1\", \"ts\": \"yesterday\"}",
    b"{\"id\": \"b4\", \"user\": \"u1\", \"ts\": \"2300-01-01T00:00:00Z\"}",
    b"{\"id\": \"b5\", \"user\": \"u1\", \"ts\": \"2026-01-01T00:00:00Z\", \"amount\": \"12\"}",
    b"{\"id\": \"b6\", \"user\": \"u1\", \"ts\": \"2026-01-01T00:00:00Z\", \"price\": \"1.234\"}",
    b"{\"id\": \"b7\", \"user\": \"u1\", \"ts\": \"2026-01-01T00:00:00Z\", \"step\": {}}",
    b"{\"id\": \"\xff\"}",
];
const BAD_VERSIONS: [&[u8]; 4] = [
    b"{}",
    b"{\"user\": \"u1\", \"region\": 5}",
    b"{\"user\": \"u2\", \"deleted\": 1}",
    b"nothing",
];

/// An event that was written, for copies.
#[derive(Debug, Clone)]
struct Written {
    home: i32,
    id: String,
    /// All but id and amount.
    rest: String,
    amount: Option<i64>,
}

#[derive(Debug)]
pub struct History {
    random: Random,
    users: usize,
    partitions: usize,
    user_partitions: usize,
    /// Bytes of filling in a line, so that a topic is read in several batches.
    filling: usize,
    /// How many events an append may have.
    sizes: Vec<usize>,
    written: Vec<Written>,
    /// Lines that were begun: partition and what is missing of them.
    begun: Vec<(i32, String)>,
}

impl History {
    pub fn new(random: &mut Random) -> Self {
        let filling = if random.chance(25) { 12_000 } else { 0 };
        History {
            users: random.between(1, 12),
            partitions: random.between(1, 6),
            user_partitions: random.between(1, 3),
            filling,
            sizes: vec![0, 1, 10, 60, 120],
            random: Random::new(random.bits()),
            written: Vec::new(),
            begun: Vec::new(),
        }
    }

    /// A history of long lines, which are read in many batches.
    pub fn long(random: &mut Random) -> Self {
        let (users, partitions) = (40, 4);
        History { users, partitions, filling: 20_000, sizes: vec![1500], ..History::new(random) }
    }

    /// A history of short appends to a few partitions.
    pub fn short(random: &mut Random) -> Self {
        let (users, partitions, user_partitions) = (8, 3, 2);
        let (filling, sizes) = (0, vec![12, 25]);
        History { users, partitions, user_partitions, filling, sizes, ..History::new(random) }
    }

    /// Appends what comes before the next run.
    pub fn append(&mut self, fixture: &Fixture) {
        for (partition, rest) in std::mem::take(&mut self.begun) {
            fixture.append("events", partition, rest);
        }
        if self.random.chance(10) {
            self.partitions += 1;
        }
        for _ in 0..self.random.between(0, 25) {
            self.append_version(fixture);
        }
        let events = *self.random.pick(&self.sizes);
        for _ in 0..events {
            self.append_event(fixture);
        }
        if self.random.chance(15) {
            self.begin_line(fixture);
        }
    }

    fn append_version(&mut self, fixture: &Fixture) {
        let random = &mut self.random;
        let user = random.below(self.users + 1);
        let partition = (user % self.user_partitions) as i32;
        if random.chance(6) {
            fixture.append("users", partition, [*random.pick(&BAD_VERSIONS), b"\n"].concat());
            return;
        }
        let region = *random.pick(&["\"emea\"", "\"apac\"", "\"latam\"", "\"é ü\"", "null"]);
        let plan = *random.pick(&["\"free\"", "\"pro\"", "null"]);
        let deleted = if random.chance(15) { ", \"deleted\": true" } else { "" };
        let line =
            format!("{{\"user\": \"u{user}\", \"region\": {region}, \"plan\": {plan}{deleted}}}\n");
        fixture.append("users", partition, line);
    }

    fn append_event(&mut self, fixture: &Fixture) {
        let partition = self.random.below(self.partitions) as i32;
        let fate = self.random.below(100);
        if fate < 5 {
            let bad = *self.random.pick(&BAD_EVENTS);
            fixture.append("events", partition, [bad, b"\n"].concat());
        } else if fate < 30 && !self.written.is_empty() {
            self.append_copy(fixture, partition);
        } else {
            let event = self.event(partition);
            fixture.append("events", partition, line(&event, event.amount));
            self.written.push(event);
        }
    }

    /// A copy in any partition, or a conflicting one behind the first.
    fn append_copy(&mut self, fixture: &Fixture, partition: i32) {
        let index = self.random.below(self.written.len());
        let event = &mut self.written[index];
        let conflicts = self.random.chance(25);
        if conflicts {
            let amount = event.amount.map_or(1, |amount| amount + 1);
            fixture.append("events", event.home, line(event, Some(amount)));
        } else {
            fixture.append("events", partition, line(event, event.amount));
        }
    }

    fn event(&mut self, home: i32) -> Written {
        let random = &mut self.random;
        let id = format!("e{}", self.written.len());
        let mut rest = format!("\"user\": \"u{}\"", random.below(self.users));
        // Mostly one day, now and then much earlier or later.
        let day = if random.chance(5) { random.between(1, 28) } else { 14 };
        let (hour, minute) = (random.below(8), random.pick(&[0, 30, 59]));
        let fraction = random.pick(&["", ".5", ".123456"]);
        let offset = random.pick(&["Z", "+00:00", "+02:00"]);
        write!(rest, ", \"ts\": \"2026-03-{day:02}T{hour:02}:{minute:02}:00{fraction}{offset}\"")
            .unwrap();
        if random.chance(85) {
            let step = random.pick(&["view", "view", "signup", "signup", "trial", "paid", "other"]);
            write!(rest, ", \"step\": \"{step}\"").unwrap();
        }
        if random.chance(60) {
            let os = random.pick(&["\"ios\"", "\"web\"", "null"]);
            write!(rest, ", \"device\": {{\"os\": {os}}}").unwrap();
        }
        if random.chance(60) {
            let price = random.pick(&["0.01", "-3.5", "12", "9999999999.99", "7.10"]);
            write!(rest, ", \"price\": \"{price}\"").unwrap();
        }
        if self.filling > 0 {
            write!(rest, ", \"filling\": \"{}\"", "x".repeat(self.filling)).unwrap();
        }
        let amounts = [None, Some(0), Some(-5), Some(7), Some(1 << 50), Some(100)];
        let amount = *random.pick(&amounts);
        Written { home, id, rest, amount }
    }

    /// The first part of a line: it is no record before its newline.
    fn begin_line(&mut self, fixture: &Fixture) {
        let partition = self.random.below(self.partitions) as i32;
        let event = self.event(partition);
        let line = line(&event, event.amount);
        let cut = self.random.between(1, line.len() - 1);
        fixture.append("events", partition, &line[..cut]);
        self.begun.push((partition, line[cut..].to_owned()));
        self.written.push(event);
    }
}

fn line(event: &Written, amount: Option<i64>) -> String {
    let amount = amount.map_or_else(String::new, |amount| format!(", \"amount\": {amount}"));
    format!("{{\"id\": \"{}\", {}{amount}}}\n", event.id, event.rest)
}
