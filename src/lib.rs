//! tidewater: Kafka topics in, exact Apache Iceberg tables out.

pub mod job;
pub mod lake;
pub mod model;
pub mod source;
