//! tidewater: Kafka topics in, exact Apache Iceberg tables out.

pub mod job;
pub mod model;
pub mod source;

pub mod decode;
pub mod ingest;
pub mod record_rows;

pub mod dedup;
pub mod ids;

pub mod aggregate;
pub mod changes;
pub mod enrich;
pub mod funnel;
pub mod groups;
pub mod hydrate;
pub mod users;

pub mod lake;
pub mod sink;
pub mod state;
pub mod symbols;

pub mod clock;
pub mod dataflow;
pub mod driver;
pub mod frontier;
pub mod offload;
pub mod worker;

pub mod generate;

pub mod cli;
