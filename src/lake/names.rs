//! The names of all files that a table consists of, made and read in one place.
//!
//! ```text
//! data/{job}-{incarnation:08}-{commit:012}-{worker:03}-{uuid7}.parquet
//! metadata/{job}-{incarnation:08}-{commit:012}-m{number:02}-{uuid7}.avro       a manifest
//! metadata/snap-{snapshot id}-{job}-{incarnation:08}-{commit:012}-{uuid7}.avro  a manifest list
//! metadata/{version:05}-{uuid}[.gz].metadata.json
//! ```
//!
//! The last shape is fixed by the readers, which take the number in front for the version. So incarnation and
//! job stand in the uuid (version 8, whose bits are the maker's own): its first eight digits are the
//! incarnation, its last eight a hash of the job's name.

use uuid::{Builder, Uuid, Version};
use xxhash_rust::xxh3::xxh3_64;

/// Who writes a file, and for which commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub job: String,
    pub incarnation: u64,
    pub commit: u64,
}

impl Origin {
    /// Where a worker's next data file goes.
    pub fn data_file(&self, table_location: &str, worker: usize) -> String {
        let (stem, id) = (self.stem(), Uuid::now_v7());
        format!("{}/data/{stem}-{worker:03}-{id}.parquet", trimmed(table_location))
    }

    pub(crate) fn manifest(&self, table_location: &str, number: usize) -> String {
        let (stem, id) = (self.stem(), Uuid::now_v7());
        format!("{}/metadata/{stem}-m{number:02}-{id}.avro", trimmed(table_location))
    }

    pub(crate) fn manifest_list(&self, table_location: &str, snapshot_id: i64) -> String {
        let (stem, id) = (self.stem(), Uuid::now_v7());
        format!("{}/metadata/snap-{snapshot_id}-{stem}-{id}.avro", trimmed(table_location))
    }

    /// Where version `version` of the table's metadata goes.
    pub(crate) fn metadata(&self, table_location: &str, version: i32, gzip: bool) -> String {
        let mut bytes = *Uuid::new_v4().as_bytes();
        let incarnation = u32::try_from(self.incarnation).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&incarnation.to_be_bytes());
        bytes[12..].copy_from_slice(&job_digits(&self.job));
        let id = Builder::from_bytes(bytes)
            .with_variant(uuid::Variant::RFC4122)
            .with_version(Version::Custom)
            .into_uuid();
        let suffix = if gzip { ".gz" } else { "" };
        format!("{}/metadata/{version:05}-{id}{suffix}.metadata.json", trimmed(table_location))
    }

    fn stem(&self) -> String {
        format!("{}-{:08}-{:012}", self.job, self.incarnation, self.commit)
    }
}

/// What the uuid of a metadata file says of the job.
fn job_digits(job: &str) -> [u8; 4] {
    (xxh3_64(job.as_bytes()) as u32).to_be_bytes()
}

/// The incarnation of `job` that wrote the file of this name; nothing where the name is not ours.
pub fn incarnation_of(file_name: &str, job: &str) -> Option<u64> {
    if let Some(stem) = file_name.strip_suffix(".metadata.json") {
        let stem = stem.strip_suffix(".gz").unwrap_or(stem);
        let id = Uuid::parse_str(stem.split_once('-')?.1).ok()?;
        let is_of_job = id.as_bytes().ends_with(&job_digits(job));
        let ours = id.get_version() == Some(Version::Custom) && is_of_job;
        let head = id.as_bytes().first_chunk::<4>()?;
        return ours.then(|| u32::from_be_bytes(*head).into());
    }
    Some(stem_of(file_name, job)?.0)
}

/// The commit of `job` for which the data file, manifest or manifest list of this name was written; nothing
/// where the name is not ours.
pub fn commit_of(file_name: &str, job: &str) -> Option<u64> {
    Some(stem_of(file_name, job)?.1)
}

/// Incarnation and commit in the name of a data file, a manifest or a manifest list.
fn stem_of(file_name: &str, job: &str) -> Option<(u64, u64)> {
    let stem = file_name.strip_suffix(".parquet").or_else(|| file_name.strip_suffix(".avro"))?;
    let stem = match stem.strip_prefix("snap-") {
        Some(rest) => rest.split_once('-')?.1,
        None => stem,
    };
    let rest = stem.strip_prefix(job)?.strip_prefix('-')?;
    let (incarnation, rest) = rest.split_once('-')?;
    let digits = |text: &str, least: usize| {
        text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let commit = rest.split_once('-')?.0;
    let both = digits(incarnation, 8) && digits(commit, 12);
    both.then(|| Some((incarnation.parse().ok()?, commit.parse().ok()?)))?
}

/// The version number of a metadata file, from its location; 0 where there is none.
pub(crate) fn metadata_version(location: &str) -> i32 {
    let name = location.rsplit('/').next().unwrap_or(location);
    name.split_once('-').and_then(|(version, _)| version.parse().ok()).unwrap_or(0)
}

/// A path in the one form that is compared: without `file:` and without doubled slashes in front.
pub fn normal_path(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("file:") else { return path };
    match rest.strip_prefix("//") {
        Some(stripped) if stripped.starts_with('/') => stripped,
        _ => rest,
    }
}

fn trimmed(location: &str) -> &str {
    location.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(job: &str) -> Origin {
        Origin { job: job.into(), incarnation: 7, commit: 42 }
    }

    fn name(path: &str) -> &str {
        path.rsplit('/').next().unwrap()
    }

    #[test]
    fn every_name_tells_its_incarnation() {
        for job in ["subscriptions", "a-b", "a-00000001-b"] {
            let origin = origin(job);
            let paths = [
                origin.data_file("/w/t/", 3),
                origin.manifest("/w/t", 0),
                origin.manifest_list("/w/t", 123),
                origin.metadata("/w/t", 1, true),
                origin.metadata("/w/t", 1, false),
            ];
            for path in &paths {
                assert_eq!(incarnation_of(name(path), job), Some(7), "{path}");
                let of_commit = !path.ends_with(".json");
                assert_eq!(commit_of(name(path), job), of_commit.then_some(42), "{path}");
            }
            assert!(paths[0].starts_with(&format!("/w/t/data/{job}-00000007-000000000042-003-")));
        }
    }

    #[test]
    fn names_of_others_are_not_ours() {
        let other = origin("jobs").data_file("/w", 0);
        assert_eq!(incarnation_of(name(&other), "job"), None);
        let other = origin("jobs").metadata("/w", 3, false);
        assert_eq!(incarnation_of(name(&other), "job"), None);
        assert_eq!(incarnation_of("00000-0-af.parquet", "job"), None);
        let foreign = "00001-2cd22b57-5127-4198-92ba-e4e67c79821b.metadata.json";
        assert_eq!(incarnation_of(foreign, "job"), None);
    }

    #[test]
    fn a_metadata_name_is_one_that_readers_parse() {
        let path = origin("j").metadata("/w/t", 12, true);
        let parsed: iceberg::MetadataLocation = path.parse().unwrap();
        assert_eq!(parsed.to_string(), path);
        assert_eq!(metadata_version(&path), 12);
    }

    #[test]
    fn one_file_has_one_normal_path() {
        for path in ["/a/b", "file:/a/b", "file:///a/b"] {
            assert_eq!(normal_path(path), "/a/b");
        }
        assert_eq!(normal_path("a/b"), "a/b");
    }
}
