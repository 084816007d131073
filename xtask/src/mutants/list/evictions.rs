//! Copies that leave a tier, and reads out of the tiers below.

use super::{Mutant, Selection, units};

const STORE: &[Selection] = &[units("aof2-core", "store::tests::evictions")];
const PLAN: &[Selection] = &[units("aof2-core", "coordinator::plan::tests")];

const FETCH: &[Selection] = &[units("aof2-core", "fetch::tests")];

const CLIENTS: &[Selection] = &[units("aof2-node", "data::read")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a client that stands still keeps its segment",
        file: "engine/node/src/data/read.rs",
        find: "record.payload = Bytes::copy_from_slice(&record.payload);",
        replace: "record.payload = record.payload.clone();",
        noticed_by: CLIENTS,
    },
    Mutant {
        name: "warm copies that no read comes to leave last",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "true => (false, u64::MAX - warm.used, u64::MAX - warm.segment_id),",
        replace: "true => (true, warm.used, warm.segment_id),",
        noticed_by: PLAN,
    },
    Mutant {
        name: "what leaves Tier 0 takes the place of what was read after it",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "if is_going || !warm.is_hot && warm.used > hot.used {",
        replace: "if is_going {",
        noticed_by: PLAN,
    },
    Mutant {
        name: "the copy in Tier 1 of what leaves Tier 0 leaves with it",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "warm.is_hot && !going.contains(&(&*warm.stream, warm.segment_id))",
        replace: "warm.is_hot && (!going.contains(&(&*warm.stream, warm.segment_id)) || warm.bytes > 0)",
        noticed_by: PLAN,
    },
    Mutant {
        name: "appends that are refused wait for compressions",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "&& tier0.usage.refused_bytes == 0",
        replace: "",
        noticed_by: PLAN,
    },
    Mutant {
        name: "Tier 1 does not keep what Tier 0 gives up",
        file: "engine/core/src/coordinator/apply.rs",
        find: "self.keep_warm(port, stream, *segment_id);",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "what Tier 2 does not have leaves Tier 0",
        file: "engine/core/src/store/evict.rs",
        find: "segment.is_some_and(|segment| segment.copies.hot && segment.copies.cold.is_some())",
        replace: "segment.is_some_and(|segment| segment.copies.hot)",
        noticed_by: STORE,
    },
    Mutant {
        name: "what Tier 2 does not have is listed as what may leave",
        file: "engine/core/src/store/evict.rs",
        find: "    copies.hot && copies.cold.is_some() && sealed.is_hot()\n",
        replace: "    copies.hot && sealed.is_hot()\n",
        noticed_by: STORE,
    },
    Mutant {
        name: "an evicted file goes before its record",
        file: "engine/core/src/store/evict.rs",
        find: "stream.manifest.commit(&owned, segment_id, vec![dropped])?;",
        replace: "drop((owned, dropped));",
        noticed_by: STORE,
    },
    Mutant {
        name: "a warm file whose copy was dropped stays over a start",
        file: "engine/core/src/coordinator/warm_files.rs",
        find: "if dropped.contains(&path) {",
        replace: "if dropped.contains(&root) {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a damaged block is served",
        file: "engine/core/src/jobs/warm.rs",
        find: "if crc32c(&block) != entry.crc32c {",
        replace: "if crc32c(&block) != entry.crc32c && block.is_empty() {",
        noticed_by: STORE,
    },
    Mutant {
        name: "an evicted segment is served from where its file was",
        file: "engine/core/src/segment/sealed.rs",
        find: "self.is_hot.store(false, Ordering::Release);",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "a damaged warm file ends the read though the object is there",
        file: "engine/core/src/fetch/session.rs",
        find: "if matches!(self.warm, Warm::None) || self.segment.copies.cold.is_none() {",
        replace: "if matches!(self.warm, Warm::None) || self.segment.copies.cold.is_some() {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a warm file that another reader found damaged is damage for all",
        file: "engine/core/src/fetch/session.rs",
        find: "Err(error) => self.give_up_warm(error)?,\n            }\n        }\n        loop {",
        replace: "Err(error) => return Err(error),\n            }\n        }\n        loop {",
        noticed_by: FETCH,
    },
    Mutant {
        name: "a damaged block takes the whole segment along",
        file: "engine/core/src/fetch/source.rs",
        find: "sequences: Some(sequences_of(index, number)),",
        replace: "sequences: Some(sequences_of(index, number)).filter(Range::is_empty),",
        noticed_by: STORE,
    },
    Mutant {
        name: "a large append waits for room that nobody makes",
        file: "engine/core/src/admit.rs",
        find: "self.refused_bytes.swap(0, Ordering::Relaxed)",
        replace: "self.refused_bytes.swap(0, Ordering::Relaxed) / u64::MAX",
        noticed_by: STORE,
    },
    Mutant {
        name: "a volume that others fill is a reason to make small segments",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "over_budget.saturating_sub(evicted + on_the_way)",
        replace: "tier0.lacking_bytes().saturating_sub(evicted + on_the_way)",
        noticed_by: PLAN,
    },
    Mutant {
        name: "open segments keep Tier 0 full",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "over_budget.saturating_sub(evicted + on_the_way)",
        replace: "over_budget.min(evicted * on_the_way)",
        noticed_by: PLAN,
    },
    Mutant {
        name: "what was read last leaves first",
        file: "engine/core/src/coordinator/plan/evict.rs",
        find: "copies.sort_by_key(|copy| age(copy));",
        replace: "copies.sort_by_key(|copy| std::cmp::Reverse(age(copy)));",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a scan waits at each segment of Tier 2",
        file: "engine/core/src/stream/read/blocks.rs",
        find: "if is_due && self.stream.ask_ahead(&self.common, segment, ahead) {",
        replace: "if is_due {",
        noticed_by: &[units("aof2-core", "store::tests::cold_scans")],
    },
    Mutant {
        name: "an index is not there where the manifest has another size",
        file: "engine/core/src/fetch/source.rs",
        find: "Err(FetchError::Damaged { .. }) => {}\n                Ok(_) | Err(FetchError::Busy { .. } | FetchError::Unavailable(_)) => return index,",
        replace: "Ok(_) | Err(_) => return index,",
        noticed_by: FETCH,
    },
];
