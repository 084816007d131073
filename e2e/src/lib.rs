//! The whole product on a real Kubernetes: what its tests and its demo are made of.
//!
//! Nothing here stands in for a part: the API server, the kubelet, the S3 server, the chart and the images are the real ones.
//! Evidence is taken from outside the parts under test: acknowledgements lie in a collector on the host, the operator's writes
//! in the API server's audit log, the pods' lives in a watch of our own.

pub mod audit;
pub mod cluster;
pub mod collector;
pub mod engine;
pub mod environment;
pub mod gitops;
pub mod guide;
pub mod helm;
pub mod json;
pub mod kubectl;
pub mod local;
pub mod namespace;
pub mod oracle;
pub mod pods;
pub mod s3;
pub mod safety;
pub mod scenario;
pub mod snapshots;
pub mod turns;
pub mod wait;
pub mod writer;
pub mod year;
