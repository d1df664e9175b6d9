//! The things that flow through the dataflow. This module knows nobody.

pub mod epoch;
pub mod fact;
pub mod hash;
pub mod parcel;
pub mod symbol;
pub mod time;
pub mod value;

pub use epoch::{Commit, Epoch, Incarnation};
pub use fact::{DimensionChange, Fact, Position};
pub use parcel::{Parcel, Parcels};
pub use symbol::{Interner, Symbol};
pub use value::{ColumnType, Value};
