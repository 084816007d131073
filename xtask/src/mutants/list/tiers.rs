//! Rules T1 to T11 of tiers, each broken once: the model of a log over three tiers notices (`engine/core/tests/tier_model`).
//! Rules of merges that only the store's own tests notice are in `compaction.rs`.

use super::{Mutant, Selection, tests, units};

const MODEL: &[Selection] = &[tests("aof2-core", "tier_model", "a_log_over_three_tiers")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "T1: a copy that was dropped counts as long as another one is there",
        file: "engine/core/src/residency/fold.rs",
        find: "LocalCopy::Hot => segment.copies.hot = false,",
        replace: "LocalCopy::Hot => segment.copies.hot &= segment.copies.cold.is_some(),",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T1: a file is removed before the manifest drops its copy",
        file: "engine/core/src/store/evict.rs",
        find: "        stream.manifest.commit(&owned, segment_id, vec![dropped])?;\n        Ok(self.remove_dropped(&stream, &sealed).bytes())",
        replace: "        let bytes = self.remove_dropped(&stream, &sealed).bytes();\n        stream.manifest.commit(&owned, segment_id, vec![dropped])?;\n        Ok(bytes)",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T1: a warm file is removed and no record drops its copy",
        file: "engine/core/src/jobs/drop_warm.rs",
        find: "    port.commit(stream, segment_id, TierRecord::WarmEvicted { bytes })?;\n",
        replace: "    let _ = TierRecord::WarmEvicted { bytes };\n",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T2: what was never uploaded below the start holds the count back",
        file: "engine/core/src/residency/fold.rs",
        find: "self.uploaded_upto = self.uploaded_upto.max(self.start_sequence);",
        replace: "self.uploaded_upto = self.uploaded_upto.min(self.start_sequence.max(self.uploaded_upto));",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T2: an upload counts before its record is durable",
        file: "engine/core/src/store/mod.rs",
        find: "        stream.uploaded.fetch_max(uploaded, Ordering::AcqRel);\n        Ok(())",
        replace: "        let staged = stream.manifest.read(|state| state.residency.uploaded_upto());\n        stream.uploaded.fetch_max(uploaded.max(staged), Ordering::AcqRel);\n        Ok(())",
        noticed_by: &[
            tests("aof2-core", "tier_model", "a_log_over_three_tiers"),
            units("aof2-core", "an_upload_counts_when_its_record"),
        ],
    },
    Mutant {
        name: "T3: each try of an upload that fails is recorded",
        file: "engine/core/src/coordinator/record.rs",
        find: "&& !segment.moves.has_failed(FailedStep::Upload, reason)",
        replace: "&& segment.records > 0",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T4: a copy comes back whatever room there is",
        file: "engine/core/src/store/restore.rs",
        find: "if !common.space.take_for_copy(bytes, self.ahead_bytes()) {",
        replace: "if bytes == 0 {",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T5: the cache knows blocks by the place of their segment alone",
        file: "engine/core/src/fetch/cache.rs",
        find: "            stream: segment.stream.clone(),\n            epoch: segment.epoch,\n            segment_id: segment.segment_id,\n            base_sequence: segment.base_sequence,\n            crc64: segment.crc64,",
        replace: "            stream: Arc::default(),\n            epoch: segment.epoch,\n            segment_id: segment.segment_id,\n            base_sequence: segment.base_sequence,\n            crc64: 0,",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T6: a fetch that fails keeps its place",
        file: "engine/core/src/fetch/flight.rs",
        find: "            state.bytes -= flight.wish.bytes();\n            state.under_way -= 1;\n            match &outcome {",
        replace: "            state.bytes -= flight.wish.bytes();\n            state.under_way -= usize::from(outcome.is_ok());\n            match &outcome {",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T7: retention goes by a clock that a step has moved",
        file: "engine/core/src/retention/clock.rs",
        find: "-tolerance <= ahead && ahead <= tolerance + nanos(slack)",
        replace: "-tolerance <= ahead && ahead > i128::MIN + nanos(slack)",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T8: what a snapshot names goes",
        file: "engine/core/src/coordinator/plan/delete.rs",
        find: "&& object.base_sequence < named.to_sequence",
        replace: "&& object.base_sequence < named.from_sequence",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T9: an object goes before the bucket has the manifest that gives it up",
        file: "engine/core/src/deletion/pass.rs",
        find: "            self.publish(stream)?;\n            // Read again",
        replace: "            // Read again",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T9: no grace lies before a deletion",
        file: "engine/core/src/coordinator/plan/delete.rs",
        find: "let until_unix_nanos = at_unix_nanos.saturating_add(grace);",
        replace: "let until_unix_nanos = at_unix_nanos.saturating_add(grace / 4);",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T10: what was trimmed while it was merged comes back",
        file: "engine/core/src/store/merge.rs",
        find: "is_cold(id) == has_tier2 && !residency.is_trimmed(*id)",
        replace: "is_cold(id) == has_tier2",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T10: an object of a merged segment goes though a catalogue names it",
        file: "engine/core/src/coordinator/plan/delete.rs",
        find: "(!object.is_superseded || named.segments.contains(object.segment_id))",
        replace: "!object.is_superseded",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T10: a base forgets that an output was given up",
        file: "engine/core/src/manifest/base/keep.rs",
        find: "            Compaction::GivenUp => before.get(1..).unwrap_or_default(),",
        replace: "            Compaction::GivenUp => &before[..],",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T11: a process without descriptors ends for it",
        file: "engine/core/src/io/errno.rs",
        find: "libc::EMFILE | libc::ENFILE => Some(Lack::Descriptors),",
        replace: "libc::ENFILE => Some(Lack::Descriptors),",
        noticed_by: MODEL,
    },
    Mutant {
        name: "T11: a round fails for a segment that lacks a descriptor",
        file: "engine/core/src/journal/writer.rs",
        find: "Err(error) if is_rejection(&error.source) && may_wait() => {",
        replace: "Err(error) if is_rejection(&error.source) && !may_wait() => {",
        noticed_by: &[
            tests("aof2-core", "tier_model", "a_log_over_three_tiers"),
            units("aof2-core", "a_round_waits_for_what_a_segment_lacks"),
        ],
    },
    Mutant {
        name: "what the seal adds to a segment that lost its length is not counted",
        file: "engine/core/src/store/seal.rs",
        find: "        space.add_segment(file_bytes.saturating_sub(allocated));\n",
        replace: "",
        noticed_by: &[
            tests("aof2-core", "tier_model", "a_log_over_three_tiers"),
            units("aof2-core", "a_segment_that_lost_its_length"),
        ],
    },
    Mutant {
        name: "an upload is recorded and nothing was put",
        file: "engine/core/src/jobs/upload.rs",
        find: "let meta = put_and_compare(tier2, &key, segment, source, facts, &is_needed)?;",
        replace: "let meta = put_and_compare(tier2, &key, segment, source, facts, &is_needed).unwrap_or(ObjectMeta { size_bytes: facts.size_bytes, etag: String::new(), crc64nvme: None, put_id: None });",
        noticed_by: MODEL,
    },
    Mutant {
        name: "a copy leaves Tier 1 before a start has looked at what is there",
        file: "engine/core/src/coordinator/apply.rs",
        find: "let _one_at_a_time = self.dropping(port);\n        let segment = ",
        replace: "let _one_at_a_time = self.dropping.lock();\n        let segment = ",
        noticed_by: &[units("aof2-core", "a_warm_copy_that_is_dropped_while")],
    },
    Mutant {
        name: "T11: a full volume does not start with torn bytes",
        file: "engine/core/src/recovery/scan.rs",
        find: "lack_of(error) == Some(Lack::Space) && self.cut_at.is_none()",
        replace: "lack_of(error) == Some(Lack::Space) && self.cut_at.is_some()",
        noticed_by: &[
            tests("aof2-core", "tier_model", "a_log_over_three_tiers"),
            units("aof2-core", "a_start_on_a_full_volume"),
        ],
    },
    Mutant {
        name: "torn bytes of which no copy fits stay",
        file: "engine/core/src/recovery/scan.rs",
        find: "            Err(failed) if self.does_without(&failed.source) => {\n",
        replace: "            Err(failed) if self.does_without(&failed.source) => return Ok(()),\n            Err(failed) if self.does_without(&failed.source) => {\n",
        noticed_by: &[units("aof2-core", "a_start_on_a_full_volume_clears")],
    },
    Mutant {
        name: "what a process did not finish stays",
        file: "engine/core/src/recovery/mod.rs",
        find: "    remove_unfinished(disk, root)?;\n",
        replace: "    let _ = remove_unfinished;\n",
        noticed_by: &[units("aof2-core", "what_a_process_did_not_finish")],
    },
];
