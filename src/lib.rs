//! tidewater: Kafka topics in, exact Apache Iceberg tables out.

pub mod decode;
pub mod job;
pub mod model;
pub mod source;
