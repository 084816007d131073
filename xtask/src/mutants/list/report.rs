//! What the storage report counts.

use super::{Mutant, Selection, units};

const USAGE: &[Selection] = &[units("aof2-core", "residency::usage::tests")];
const STORE: &[Selection] = &[units("aof2-core", "store::tests::usage")];
const FORECAST: &[Selection] = &[units("aof2-core", "storage_report::forecast::tests")];
const GROWTH: &[Selection] = &[units("aof2-core", "storage_report::growth::tests")];
const CLASS: &[Selection] = &[units("aof2-core", "storage_report::class::tests")];
const ANSWER: &[Selection] = &[units("aof2-node", "storage_report::tests")];

const USAGE_FILE: &str = "engine/core/src/residency/usage.rs";
const FORECAST_FILE: &str = "engine/core/src/storage_report/forecast.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "copies of trimmed segments are in no report",
        file: USAGE_FILE,
        find: "|seal: Seal| seal.end_sequence <= start;",
        replace: "|seal: Seal| seal.end_sequence < seal.end_sequence.min(start);",
        noticed_by: USAGE,
    },
    Mutant {
        name: "a segment that took the place of others during a report counts in addition to them",
        file: USAGE_FILE,
        find: "if is_first || segment.base_sequence >= from {",
        replace: "if is_first || seal.end_sequence >= from {",
        noticed_by: USAGE,
    },
    Mutant {
        name: "a report holds the manifest of a stream for all of its segments",
        file: USAGE_FILE,
        find: "for (_, segment, seal) in segments.take(most) {",
        replace: "for (_, segment, seal) in segments.take(most.saturating_mul(1 << 20)) {",
        noticed_by: USAGE,
    },
    Mutant {
        name: "what retention takes later is what it takes now",
        file: FORECAST_FILE,
        find: "clock.unix_nanos.saturating_add(i64::from(days) * DAY)",
        replace: "clock.unix_nanos.saturating_add(i64::from(days) / DAY)",
        noticed_by: FORECAST,
    },
    Mutant {
        name: "records that were trimmed before are among those that retention takes",
        file: FORECAST_FILE,
        find: "last.end_sequence.saturating_sub(stream.start_sequence)",
        replace: "last.end_sequence",
        noticed_by: FORECAST,
    },
    Mutant {
        name: "a report believes a clock that is not trusted",
        file: FORECAST_FILE,
        find: "(clock.is_trusted || days > 0).then_some(now)",
        replace: "(clock.is_trusted || days < 99).then_some(now)",
        noticed_by: FORECAST,
    },
    Mutant {
        name: "growth is measured by a clock that is not trusted",
        file: "engine/core/src/storage_report/mod.rs",
        find: "growth.filter(|_| clock.is_trusted)",
        replace: "growth.filter(|_| clock.unix_nanos != 0)",
        noticed_by: STORE,
    },
    Mutant {
        name: "a minute of records measures a day",
        file: "engine/core/src/storage_report/growth.rs",
        find: "if window < LEAST_NANOS {",
        replace: "if window < LEAST_NANOS / 60 {",
        noticed_by: GROWTH,
    },
    Mutant {
        name: "the class of the oldest object is that of all",
        file: "engine/core/src/storage_report/class.rs",
        find: "if of_oldest != of_newest {",
        replace: "if of_oldest.is_empty() {",
        noticed_by: CLASS,
    },
    Mutant {
        name: "a report is longer than a reader takes",
        file: "engine/node/src/storage_report.rs",
        find: "if bytes > room {",
        replace: "if bytes > room && max_bytes == 0 {",
        noticed_by: ANSWER,
    },
    Mutant {
        name: "streams that a report does not describe are in no sum",
        file: "engine/node/src/storage_report.rs",
        find: "    streams.for_each(|share| rest.add(&share.usage));\n",
        replace: "    drop(streams);\n",
        noticed_by: ANSWER,
    },
    Mutant {
        name: "an object of unknown size costs nothing",
        file: "engine/node/src/storage_report.rs",
        find: "if self.prices.is_empty() || usage.unsized_objects > 0 {",
        replace: "if self.prices.is_empty() {",
        noticed_by: ANSWER,
    },
    Mutant {
        name: "a stream that another volume owns counts on both",
        file: "engine/core/src/store/usage.rs",
        find: "if is_superseded {",
        replace: "if is_superseded && false {",
        noticed_by: STORE,
    },
    Mutant {
        name: "what goes by the rules in use counts as what new rules take",
        file: "engine/core/src/storage_report/mod.rs",
        find: "share.beyond.add(takes.beyond(usage.retention));",
        replace: "share.beyond.add(takes);",
        noticed_by: STORE,
    },
];
