//! The storage report: what `/aof2/report` answers.
//!
//! Everything is of one node. A figure that nobody measured is absent.

use serde::{Deserialize, Serialize};

use crate::report::ShortenedRetention;

/// Largest answer. Streams that do not fit are in the sum of the rest.
pub const MAX_REPORT_BYTES: usize = 240 * 1024;
/// Streams that are described one by one unless the question says otherwise.
pub const DEFAULT_STREAMS: usize = 100;
/// As many as a question may ask for.
pub const MAX_STREAMS: usize = 1000;

/// Answer of `GET` and `POST /aof2/report`. Streams change while they are counted: the figures are of no single moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageReport {
    pub node: String,
    /// RFC 3339, by the clock of the node.
    pub at: String,
    /// Of all streams that were asked for.
    pub total: StorageUsage,
    /// Objects of segments that no manifest and no catalogue names, in no other figure. Absent where some streams were asked for, where not
    /// each stream's objects were listed yet, and in reports of engines that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphans: Option<TierStorage>,
    /// The largest of them, by what they hold in all tiers. With other rules of retention: by what these take within 30 days.
    #[serde(default)]
    pub streams: Vec<StreamStorage>,
    /// All others; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<StorageUsage>,
    /// Rules of retention in use, in their order, with what they take of the streams that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleForecast>,
    /// The rules that the request brought; absent where it brought none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed_rules: Option<Vec<RuleForecast>>,
    /// Streams that these keep for less, as in a verdict on a configuration; absent without them, and in reports of engines that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortened: Option<Vec<ShortenedForecast>>,
    /// Why nothing goes by age now, with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
    /// As the configuration has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<ClassPrice>,
    /// For people: rules that fit no stream, figures that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamStorage {
    pub name: String,
    /// First sequence that can be read.
    pub start_sequence: u64,
    #[serde(flatten)]
    pub usage: StorageUsage,
}

/// Of one stream, or of several. Trimmed segments count in the tiers as long as a copy of them is there; everything else is about records that
/// can be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageUsage {
    /// Streams that this adds up.
    pub streams: u64,
    pub records: u64,
    /// Of these records, uncompressed: what rules of retention by size count.
    pub readable_bytes: u64,
    /// Segment files in Tier 0, open ones included.
    pub hot: TierStorage,
    /// Compressed files in Tier 1.
    pub warm: TierStorage,
    /// Objects of segments in Tier 2, without catalogues and manifest chunks.
    pub cold: TierStorage,
    /// The same objects by storage class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassStorage>,
    /// Of `cold`: objects whose size the manifest does not say. They count for no bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub objects_of_unknown_size: u64,
    /// Absent where nothing is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Absent where the records reach back less than an hour, or the clock is not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<StorageGrowth>,
    /// When the oldest record that can be read was appended, or an older one of its segment; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_record_at: Option<String>,
    /// By the rules in use.
    #[serde(default)]
    pub retention: RetentionForecast,
    /// By the rules that the request brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed_retention: Option<RetentionForecast>,
    /// Of `classes`, in the currency of the prices; absent where a class has no price, or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cost: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierStorage {
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassStorage {
    /// As the bucket says of the oldest and the newest object of the report; absent where it does not, or where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    pub objects: u64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cost: Option<f64>,
}

/// Of segments with a compressed copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    pub uncompressed_bytes: u64,
    pub compressed_bytes: u64,
    /// `uncompressed_bytes / compressed_bytes`.
    pub ratio: f64,
}

/// What is appended in a day, by the times of records of the last 7 days, or of as many as the manifest knows; trimmed ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageGrowth {
    /// Uncompressed. What retention took is not subtracted.
    pub bytes_per_day: u64,
    /// The time that was measured; of several streams the longest.
    pub window_seconds: u64,
    /// Streams of which growth is known.
    pub streams: u64,
}

/// What retention takes of the records that are stored and sealed now. A rule by size counts with the stream's growth, where that is known, and
/// else with its size now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionForecast {
    /// With the next passes.
    pub now: RetentionTakes,
    /// Until then, `now` included.
    pub in_7_days: RetentionTakes,
    /// Likewise.
    pub in_30_days: RetentionTakes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionTakes {
    pub segments: u64,
    pub records: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// Of the objects of these segments. They leave the bucket later, and only where no snapshot names them.
    pub cold_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleForecast {
    /// Pattern.
    pub streams: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Streams of the node for which the rule counts, asked for or not.
    pub fitting_streams: u64,
    /// Of the streams that were asked for.
    #[serde(flatten)]
    pub takes: RetentionForecast,
}

/// What a rule that the request brought takes beyond the rule in use. Each stream counts for the one pair of rules that it falls under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortenedForecast {
    #[serde(flatten)]
    pub change: ShortenedRetention,
    /// Of the streams that were asked for.
    #[serde(flatten)]
    pub takes: RetentionForecast,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassPrice {
    pub class: String,
    pub per_gib_month: f64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
