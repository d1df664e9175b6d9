//! A job in a folder of its own: its topics on disk, its lake, and the real program to run it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

/// No run of a test takes this long: one that does hangs, and is stopped.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);

/// The program under test.
pub fn tidewater() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    command.stdin(Stdio::null()).env_remove("TIDEWATER_LOG");
    command
}

/// Runs a command to its end.
pub fn output_of(command: Command) -> Output {
    let what = format!("{command:?}");
    let mut command = assert_cmd::Command::from_std(command);
    let output = command.timeout(RUN_TIME_MAX).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code().is_some(),
        "{what} hangs or was killed: {}\n{stderr}",
        output.status
    );
    output
}

/// All of this must be said.
pub fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
}

/// A job in a temporary folder.
#[derive(Debug)]
pub struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// A folder with the job file `job`, whose topics are the folders `events` and `users`.
    pub fn new(job: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tidewater-test-").tempdir().unwrap();
        let fixture = Fixture { folder };
        fixture.write_job(job);
        for topic in ["events", "users"] {
            fs::create_dir_all(fixture.path(topic)).unwrap();
        }
        fixture
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another job file in place.
    pub fn write_job(&self, job: &str) {
        fs::write(self.path("job.toml"), job).unwrap();
    }

    /// The file of a partition.
    pub fn partition(&self, topic: &str, partition: i32) -> PathBuf {
        self.path(topic).join(format!("{partition}.jsonl"))
    }

    /// Appends bytes to a partition.
    pub fn append(&self, topic: &str, partition: i32, bytes: impl AsRef<[u8]>) {
        let path = self.partition(topic, partition);
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// `tidewater run job.toml` with more arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tidewater();
        command.arg("run").arg(self.path("job.toml")).args(arguments);
        command
    }

    /// Runs the job.
    pub fn run(&self, arguments: &[&str]) -> Output {
        output_of(self.command(arguments))
    }

    /// Runs another verb on the job.
    pub fn verb(&self, verb: &str, arguments: &[&str]) -> Output {
        let mut command = tidewater();
        command.arg(verb).arg(self.path("job.toml")).args(arguments);
        output_of(command)
    }

    /// Runs the job, which must succeed, and gives its report.
    pub fn report(&self, arguments: &[&str]) -> Value {
        let mut command = self.command(arguments);
        command.args(["--output", "json"]);
        let output = output_of(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{stderr}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `tidewater run job.toml` for each of `count` processes of one run, not started yet.
    pub fn processes(&self, count: usize, arguments: &[&str]) -> Vec<Command> {
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses: Vec<String> = listeners.iter().map(address).collect();
        let hostfile = self.path(&format!("hosts-{}", addresses[0].replace(':', "-")));
        fs::write(&hostfile, addresses.join("\n")).unwrap();
        let command = |process: usize| {
            let mut command = self.command(arguments);
            command.args([format!("--processes={count}"), format!("--process={process}")]);
            command.arg("--hostfile").arg(&hostfile);
            command
        };
        (0..count).map(command).collect()
    }

    /// Runs the job in `count` processes, which must succeed, and gives the report.
    pub fn report_of(&self, count: usize, arguments: &[&str]) -> Value {
        if count == 1 {
            return self.report(arguments);
        }
        let json = [arguments, &["--output=json"]].concat();
        let commands = self.processes(count, &json);
        let ends: Vec<Output> = std::thread::scope(|scope| {
            let started: Vec<_> =
                commands.into_iter().map(|command| scope.spawn(|| output_of(command))).collect();
            started.into_iter().map(|process| process.join().unwrap()).collect()
        });
        for (process, end) in ends.iter().enumerate() {
            let stderr = String::from_utf8_lossy(&end.stderr);
            assert!(end.status.success(), "process {process} of {count}: {}\n{stderr}", end.status);
            let said: Value = serde_json::from_slice(&end.stdout).unwrap();
            let of_all = ["cpu_seconds", "peak_rss_bytes", "stage_seconds", "memory_bytes"];
            assert!(of_all.iter().all(|key| !said[key].is_null()), "process {process}: {said}");
            assert_eq!(said["commit"].is_null(), process > 0, "process 0 reports: {said}");
        }
        serde_json::from_slice(&ends[0].stdout).unwrap()
    }

    /// Runs the job, which must end with exit code `code`, and gives what it said on standard error.
    pub fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{stderr}");
        assert!(output.stdout.is_empty(), "a refusal has no report");
        stderr
    }

    /// The catalog.
    pub fn catalog(&self) -> PathBuf {
        self.path("lake/catalog.db")
    }
}

/// Makes every file below a folder look as if it was last written at `time`.
pub fn set_times(folder: &Path, time: SystemTime) {
    for path in files_of(folder) {
        if path.is_dir() {
            set_times(&path, time);
        } else {
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    }
}

/// The files of a folder, sorted.
pub fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
