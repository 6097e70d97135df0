//! Files between the stages: schemas, fingerprints, atomic writes, and the experiment's configuration.
pub mod features;
