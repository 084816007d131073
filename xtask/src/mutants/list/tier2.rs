//! Who owns a stream, which state of a volume is the newest, and what may be published.

use super::{Mutant, Selection, tests, units};

const CLAIMS: &[Selection] = &[units("aof2-core", "claims_keep_their_contract_in_memory")];
const CONDITIONAL: &[Selection] = &[units("aof2-core", "objects::conditional")];
const MARKS: &[Selection] = &[units("aof2-core", "marks_keep_their_contract")];
const COMPARED: &[Selection] = &[units("aof2-core", "claims::compare")];

const BREAKER: &[Selection] = &[units("aof2-core", "objects::breaker")];
const TRIALS: &[Selection] = &[units("aof2-core", "coordinator::plan::tests")];
const CONTENT: &[Selection] = &[
    units("aof2-core", "snapshot::verify"),
    tests("aof2-core", "snapshots", "content"),
];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "everybody tries a full bucket at once",
        file: "engine/core/src/objects/breaker.rs",
        find: "breaker.is_tried = error.is_bucket_full();",
        replace: "breaker.is_tried = false;",
        noticed_by: BREAKER,
    },
    Mutant {
        name: "one segment makes all trials of a full bucket",
        file: "engine/core/src/coordinator/plan/upload.rs",
        find: "map_or(0, |failed| failed.times)",
        replace: "map_or(0, |_| 0)",
        noticed_by: TRIALS,
    },
    Mutant {
        name: "a put that landed without an answer is an outage",
        file: "engine/core/src/objects/tier2.rs",
        find: "self.breakers.lock().succeeded(self.put_kind(key), now);",
        replace: "drop((self.put_kind(key), now));",
        noticed_by: &[units("aof2-core", "objects::tier2")],
    },
    Mutant {
        name: "the name of a write speaks for other bytes",
        file: "engine/core/src/objects/conditional.rs",
        find: "Some(crc) => crc == upload.crc64nvme,",
        replace: "Some(crc) => crc == upload.crc64nvme || meta.put_id.as_deref() == Some(upload.put_id.as_str()),",
        noticed_by: CONDITIONAL,
    },
    Mutant {
        name: "L2 does not look at the whole object",
        file: "engine/core/src/snapshot/verify/content.rs",
        find: "if crc.finish() != footer.index_crc() {",
        replace: "if false {",
        noticed_by: CONTENT,
    },
    Mutant {
        name: "L2 takes a batch that does not follow",
        file: "engine/core/src/snapshot/verify/walk.rs",
        find: "if fields.prev_chain != end.chain || fields.base_sequence != end.next_sequence {",
        replace: "if fields.base_sequence != end.next_sequence {",
        noticed_by: CONTENT,
    },
    Mutant {
        name: "the claim of another volume is taken for ours",
        file: "engine/core/src/claims/mod.rs",
        find: "Ok(claim) if u64::from(highest) == epoch && claim.volume_id == volume_id => {",
        replace: "Ok(_) if u64::from(highest) == epoch => {",
        noticed_by: CLAIMS,
    },
    Mutant {
        name: "a lost volume gets its streams again",
        file: "engine/core/src/claims/mod.rs",
        find: "        if claim.volume_id == volume_id {",
        replace: "        if claim.volume_id == volume_id || claim.node == volume.node {",
        noticed_by: CLAIMS,
    },
    Mutant {
        name: "a higher epoch does not supersede",
        file: "engine/core/src/claims/mod.rs",
        find: "let Some(highest) = highest.filter(|highest| u64::from(*highest) >= epoch) else {",
        replace: "let Some(highest) = highest.map(|highest| highest.min(epoch as u32)) else {",
        noticed_by: CLAIMS,
    },
    Mutant {
        name: "a higher epoch in a key is no proof by itself",
        file: "engine/core/src/claims/mod.rs",
        find: "Err(error) if u64::from(highest) > epoch => {",
        replace: "Err(error) if u64::from(highest) == u64::MAX => {",
        noticed_by: &[units("aof2-core", "a_higher_epoch_supersedes")],
    },
    Mutant {
        name: "a take-over is not seen in a listing",
        file: "engine/core/src/claims/check.rs",
        find: "if highest.is_some_and(|highest| u64::from(highest) == own.epoch)",
        replace: "if highest.is_some()",
        noticed_by: &[units("aof2-core", "many_streams_are_refreshed")],
    },
    Mutant {
        name: "a confirmation never grows old",
        file: "engine/core/src/claims/mod.rs",
        find: "if confirmed_at.is_some_and(|at| now.saturating_duration_since(at) < max_age) {",
        replace: "if confirmed_at.is_some_and(|at| now >= at || max_age.is_zero()) {",
        noticed_by: &[units("aof2-core", "a_confirmation_serves")],
    },
    Mutant {
        name: "the prefix of another cluster is used",
        file: "engine/core/src/claims/mod.rs",
        find: "if of(&found) != of(&marker) {",
        replace: "if of(&found) != of(&marker) && key.is_empty() {",
        noticed_by: CLAIMS,
    },
    Mutant {
        name: "the ID alone makes a prefix another cluster's",
        file: "engine/core/src/claims/mod.rs",
        find: "(it.cluster_id, it.namespace.clone(), it.name.clone())",
        replace: "(it.cluster_id, String::new(), String::new())",
        noticed_by: CLAIMS,
    },
    Mutant {
        name: "one claim that cannot be read ends the check of all",
        file: "engine/core/src/claims/mod.rs",
        find: "                    Err(ClaimError::Unreadable { .. }) => {\n                        is_complete.store(false",
        replace: "                    Err(ClaimError::VolumeLost { .. }) => {\n                        is_complete.store(false",
        noticed_by: &[units("aof2-core", "an_empty_volume_is_admitted")],
    },
    Mutant {
        name: "an upload asks for no claim",
        file: "engine/core/src/jobs/upload.rs",
        find: "claims.ensure_held(&port.volume(), &segment.stream, segment.epoch, claim_age)",
        replace: "Ok(ClaimStanding::Held)",
        noticed_by: &[units("aof2-core", "a_superseded_owner_publishes")],
    },
    Mutant {
        name: "an upload is not announced in the manifest",
        file: "engine/core/src/jobs/upload.rs",
        find: "if segment.moves.upload_started.as_deref() != Some(key.as_str()) {",
        replace: "if key.is_empty() {",
        noticed_by: &[units("aof2-core", "the_manifest_tells_each_step")],
    },
    Mutant {
        name: "what the store keeps of an upload is not compared",
        file: "engine/core/src/jobs/upload.rs",
        find: "if meta.size_bytes != facts.size_bytes || kept != Some(facts.crc64nvme) {",
        replace: "if meta.size_bytes == u64::MAX && kept != Some(facts.crc64nvme) {",
        noticed_by: &[units("aof2-core", "an_object_that_the_store_cut")],
    },
    Mutant {
        name: "the check of a volume is not owed",
        file: "engine/core/src/store/admission.rs",
        find: "        state.at_open = self.counts();",
        replace: "        self.is_settled.store(true, Ordering::Release);",
        noticed_by: &[tests("aof2-core", "tiers", "an_empty_volume_that_starts")],
    },
    Mutant {
        name: "a claim without a directory begins the stream again",
        file: "engine/core/src/store/opener.rs",
        find: "Some(epoch) if !is_begun => {",
        replace: "Some(epoch) if !is_begun && epoch == u64::MAX => {",
        noticed_by: &[tests("aof2-core", "tiers", "the_volume_claimed")],
    },
    Mutant {
        name: "marks are not compared",
        file: "engine/core/src/claims/mark.rs",
        find: "if highest > mark {",
        replace: "if highest > mark && highest == u64::MAX {",
        noticed_by: MARKS,
    },
    Mutant {
        name: "a mark that somebody else has left is taken for ours",
        file: "engine/core/src/claims/mark.rs",
        find: "Creation::Taken(_) => return Err(self.is_older(volume, mark - 1, mark)?),",
        replace: "Creation::Taken(_) => {}",
        noticed_by: MARKS,
    },
    Mutant {
        name: "objects are not held against the manifest",
        file: "engine/core/src/claims/compare.rs",
        find: "if u64::from(epoch) == local.epoch && !local.uploads_begun.contains(&segment_id) {",
        replace: "if u64::from(epoch) == local.epoch && local.uploads_begun.len() > segment_id as usize {",
        noticed_by: COMPARED,
    },
    Mutant {
        name: "objects of other epochs speak against a volume",
        file: "engine/core/src/claims/compare.rs",
        find: "if u64::from(epoch) == local.epoch && !local.uploads_begun.contains(&segment_id) {",
        replace: "if !local.uploads_begun.contains(&segment_id) {",
        noticed_by: COMPARED,
    },
    Mutant {
        name: "objects of another volume speak against a volume",
        file: "engine/core/src/claims/compare.rs",
        find: "Ok(claim) => Ok(claim.volume_id != volume_id),",
        replace: "Ok(claim) => Ok(claim.volume_id != volume_id && claim.epoch == 0),",
        noticed_by: COMPARED,
    },
    Mutant {
        name: "an object in the way is taken for ours",
        file: "engine/core/src/objects/conditional.rs",
        find: "let is_ours = same_size",
        replace: "let is_ours = true || same_size",
        noticed_by: CONDITIONAL,
    },
    Mutant {
        name: "a lost answer is taken for a success",
        file: "engine/core/src/objects/conditional.rs",
        find: "                Verdict::ReadBack(Some(error))",
        replace: "                Verdict::Done {\n                    etag: error.to_string(),\n                }",
        noticed_by: CONDITIONAL,
    },
];
