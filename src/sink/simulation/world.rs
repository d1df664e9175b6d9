//! One simulation: a seed decides which run takes the next step, who is killed, when the power fails, and
//! what other programs do meanwhile.

use std::sync::{Arc, Mutex};

use hashbrown::HashSet;

use super::database::SimDatabase;
use super::model::{Meta, NAMES, Object, TABLES, location};
use super::run::Run;
use super::sim::{Fate, InFlight, Mutant, Shared, Sim};
use crate::lake::catalog::Catalog;
use crate::lake::names::incarnation_of;
use crate::lake::reach::Node;

/// Runs at once: the newest, and frozen ones that wake up.
const RUNS_MAX: usize = 3;
/// Turns of most seeds, and of one in five.
const TURNS: (usize, usize) = (3, 10);
const TURNS_LONG: (usize, usize) = (5, 25);
/// Steps of one run in a turn.
const BURST_MAX: usize = 24;
const HOUR_MS: i64 = 3_600_000;

/// The machine, the runs on it, and what surrounds them.
struct World {
    shared: Shared,
    runs: Vec<Run>,
}

/// Plays a seed; gives the violation, if there is one.
pub(super) fn play(seed: u64, mutant: Option<Mutant>) -> Option<String> {
    let shared = Arc::new(Mutex::new(Sim::new(seed, mutant)));
    let mut world = World { shared, runs: Vec::new() };
    let turns = world.random(|random| {
        let (least, most) = if random.chance(20) { TURNS_LONG } else { TURNS };
        random.between(least, most)
    });
    for _ in 0..turns {
        world.turn();
        if world.violation().is_some() {
            return world.violation();
        }
    }
    world.end_well();
    world.violation()
}

impl World {
    fn random<T>(&self, of: impl FnOnce(&mut super::random::Random) -> T) -> T {
        of(&mut self.shared.lock().unwrap().random)
    }

    fn violation(&self) -> Option<String> {
        self.shared.lock().unwrap().violation.clone()
    }

    fn turn(&mut self) {
        self.runs.retain(|run| !run.has_ended());
        if self.runs.is_empty() {
            self.start();
        }
        let fate = self.random(|random| random.below(100));
        match fate {
            0..60 => self.burst(),
            60..68 => self.start(),
            68..74 => self.doom(),
            74..79 => self.kill(),
            79..83 => self.lose_power(),
            83..91 => self.pass_time(),
            91..95 => self.meddle(),
            _ => self.repeat(),
        }
    }

    fn start(&mut self) {
        if self.runs.len() < RUNS_MAX {
            self.runs.push(Run::new(&self.shared));
        }
    }

    fn pick(&self) -> Option<usize> {
        (!self.runs.is_empty()).then(|| self.random(|random| random.below(self.runs.len())))
    }

    /// One run goes on for a while; the others are frozen.
    fn burst(&mut self) {
        let Some(at) = self.pick() else { return };
        for _ in 0..self.random(|random| random.between(1, BURST_MAX)) {
            self.runs[at].step();
            self.shared.lock().unwrap().now_ms += 7;
        }
    }

    /// One run is going to be killed, or to see an error, in the middle of something; half of the time the
    /// machine goes down with it.
    fn doom(&mut self) {
        let Some(at) = self.pick() else { return };
        let run = self.runs[at].number;
        let (calls, is_killed) = self.random(|random| (random.below(60), random.chance(70)));
        {
            let mut sim = self.shared.lock().unwrap();
            let fate = &mut sim.fates[run];
            if is_killed {
                fate.killed_after = Some(calls);
            } else {
                fate.fails_after = Some(calls);
            }
        }
        self.runs[at].step();
        while !self.runs[at].has_ended() && self.random(|random| random.chance(97)) {
            self.runs[at].step();
        }
        if self.runs[at].has_ended() && is_killed && self.random(|random| random.chance(50)) {
            self.lose_power();
        }
    }

    fn kill(&mut self) {
        if let Some(at) = self.pick() {
            let run = self.runs.swap_remove(at);
            self.shared.lock().unwrap().fates[run.number].dead = true;
        }
    }

    fn lose_power(&mut self) {
        let mut sim = self.shared.lock().unwrap();
        for run in self.runs.drain(..) {
            sim.fates[run.number].dead = true;
        }
        let mut random = sim.random.clone();
        sim.files.lose_power(&mut random);
        sim.random = random;
    }

    /// The clock goes on, and now and then back.
    fn pass_time(&mut self) {
        let mut sim = self.shared.lock().unwrap();
        let (hours, back) = (sim.random.between(0, 3), sim.random.chance(15));
        let passed = i64::try_from(hours).unwrap() * HOUR_MS;
        sim.latest_ms = sim.latest_ms.max(sim.now_ms + passed);
        sim.now_ms += if back { -passed } else { passed };
    }

    /// Another program changes a table, drops it, or puts it back as it was.
    fn meddle(&mut self) {
        let mut sim = self.shared.lock().unwrap();
        let table = sim.random.below(TABLES);
        let name = NAMES[table].to_owned();
        if let Some(before) = sim.foreign.remove(&table) {
            sim.rows.tables.insert(name, before);
            return sim.check_readers();
        }
        // Seldom: nothing can be committed to the table until it is put back.
        if sim.random.chance(60) {
            return;
        }
        let Some(before) = sim.rows.tables.get(&name).cloned() else { return };
        sim.foreign.insert(table, before.clone());
        if sim.random.chance(25) {
            // Dropped is not purged: whoever puts it back needs its files.
            sim.rows.tables.remove(&name);
            return;
        }
        let Some(meta) = sim.meta(&before) else { return };
        let changed = sim.foreign_version(table, &meta);
        sim.rows.tables.insert(name, changed);
        sim.check_readers();
    }

    /// A request of earlier comes once more.
    fn repeat(&mut self) {
        let (request, ghost) = {
            let mut sim = self.shared.lock().unwrap();
            if sim.requests.is_empty() {
                return;
            }
            let count = sim.requests.len();
            // Mostly a young one.
            let back = if sim.random.chance(70) { 1 } else { sim.random.between(1, count) };
            let request = sim.requests[count - back].clone();
            sim.fates.push(Fate::default());
            sim.in_flight.push(InFlight::default());
            (request, sim.fates.len() - 1)
        };
        let mut catalog = Catalog::over(SimDatabase::new(&self.shared, ghost));
        catalog.commit(&request.0, &request.1).ok();
        self.shared.lock().unwrap().fates[ghost].dead = true;
    }

    /// Nothing goes wrong any more: a new run opens, commits and sweeps, and leaves no garbage.
    fn end_well(&mut self) {
        {
            let mut sim = self.shared.lock().unwrap();
            sim.calm = true;
            sim.now_ms = sim.now_ms.max(sim.latest_ms) + 5 * HOUR_MS;
            for run in self.runs.drain(..) {
                sim.fates[run.number].dead = true;
            }
            for (table, before) in std::mem::take(&mut sim.foreign) {
                sim.rows.tables.insert(NAMES[table].to_owned(), before);
            }
            sim.check_readers();
        }
        let mut last = Run::new(&self.shared);
        let mut steps = 0;
        let is_done = |run: &Run| run.has_ended() || (run.commits > 1 && run.is_idle());
        while !is_done(&last) {
            last.step();
            steps += 1;
            if steps > 200 {
                break;
            }
        }
        if !last.is_idle() {
            let row = self.shared.lock().unwrap().rows.job.clone();
            let state = format!("the last run does not come through: {last:?}, {row:?}");
            return self.shared.lock().unwrap().violate(|| state);
        }
        while !last.has_swept() && last.sweep().is_ok() {}
        self.check_swept(last.incarnation);
    }

    /// Of all runs before this one only those files are left that are needed.
    fn check_swept(&self, incarnation: u64) {
        let mut sim = self.shared.lock().unwrap();
        let needed: HashSet<String> = sim.needed.iter().flatten().cloned().collect();
        for table in 0..TABLES {
            for folder in ["data", "metadata"] {
                let folder = format!("{}/{folder}", location(table));
                let names: Vec<String> = sim.files.names(&folder).cloned().collect();
                for name in names {
                    let of = incarnation_of(&name, super::sim::JOB);
                    let path = format!("{folder}/{name}");
                    if of.is_some_and(|of| of < incarnation) && !needed.contains(&path) {
                        sim.violate(|| format!("{path} is left behind by incarnation {of:?}"));
                    }
                }
            }
        }
    }
}

impl Sim {
    /// Another program's version of a table: its own file on top of ours.
    fn foreign_version(&mut self, table: usize, from: &Meta) -> String {
        let number = self.unique();
        let root = format!("{}/metadata", location(table));
        let [list, meta] = [format!("snap-{number}.avro"), format!("{number}.metadata.json")]
            .map(|name| format!("{root}/{name}"));
        let present = from.nodes.last().map_or_else(Vec::new, |node| self.list(node));
        self.objects.insert(list.clone(), Object::List(Arc::new(present)));
        let newest = from.nodes.last();
        let (parent, sequence) = (newest.map(|n| n.id), newest.map_or(1, |n| n.sequence + 1));
        let (id, at_ms) = (number.cast_signed(), self.now_ms);
        let mut version = from.clone();
        version.location.clone_from(&meta);
        version.made_from = Some(from.location.clone());
        version.nodes.push(Node { id, parent, sequence, at_ms, list: list.clone() });
        self.objects.insert(meta.clone(), Object::Meta(Arc::new(version)));
        let now = self.file_time();
        [&list, &meta].into_iter().for_each(|path| self.files.put(path, now));
        meta
    }
}
