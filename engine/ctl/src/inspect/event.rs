//! What a record says, as names and values.

use aof2_format::Damage;
use aof2_format::compaction::{Compaction, Inputs};
use aof2_format::custom_event::{self, CustomEvent};
use aof2_format::manifest_record::{HydrationSource, LocalCopy, ManifestEvent};
use aof2_format::snapshot::SnapshotId;
use serde_json::{Value, json};

use crate::render;

fn undecodable(schema_id: u32, damage: &Damage, blob: &[u8]) -> Value {
    json!({
        "schema_id": schema_id,
        "damage": damage.to_string(),
        "blob": hex::encode(blob),
    })
}

pub fn fields(event: &ManifestEvent) -> Value {
    match event {
        ManifestEvent::SegmentOpened {
            base_sequence,
            epoch,
        } => json!({"base_sequence": base_sequence, "epoch": epoch}),
        ManifestEvent::SealSegment {
            durable_bytes,
            segment_crc64,
            ext_id,
            watermark,
            flush_failure,
            chain,
            first_unix_nanos,
            last_unix_nanos,
            sealed_unix_nanos,
        } => json!({
            "durable_bytes": durable_bytes,
            "segment_crc64": format!("{segment_crc64:016x}"),
            "ext_id": ext_id,
            "watermark": watermark,
            "flush_failure": flush_failure,
            "chain": format!("{chain:08x}"),
            "first_record_at": render::time(*first_unix_nanos),
            "last_record_at": render::time(*last_unix_nanos),
            "sealed_at": render::time(*sealed_unix_nanos),
        }),
        ManifestEvent::CompressionStarted => json!({}),
        ManifestEvent::CompressionDone {
            compressed_bytes,
            dictionary_id,
        } => {
            json!({"compressed_bytes": compressed_bytes, "dictionary_id": dictionary_id})
        }
        ManifestEvent::CompressionFailed { reason } | ManifestEvent::HydrationFailed { reason } => {
            json!({"reason": format!("{reason:?}"), "reason_code": reason.code()})
        }
        ManifestEvent::UploadStarted { key }
        | ManifestEvent::Tier2DeleteQueued { key }
        | ManifestEvent::Tier2Deleted { key } => json!({"key": key}),
        ManifestEvent::UploadDone { key, etag } => json!({"key": key, "etag": etag}),
        ManifestEvent::UploadFailed { key, reason } => {
            json!({"key": key, "reason": format!("{reason:?}"), "reason_code": reason.code()})
        }
        ManifestEvent::HydrationStarted { source } => json!({
            "source": match source {
                HydrationSource::Tier1 => "tier1",
                HydrationSource::Tier2 => "tier2",
            }
        }),
        ManifestEvent::HydrationDone { copy, bytes }
        | ManifestEvent::LocalEvicted { copy, bytes } => json!({
            "copy": match copy {
                LocalCopy::Hot => "hot",
                LocalCopy::Warm => "warm",
            },
            "bytes": bytes,
        }),
        ManifestEvent::SnapshotMarker {
            chunk_index,
            chunk_offset,
            snapshot_id,
        } => {
            let id = SnapshotId(*snapshot_id);
            json!({
                "snapshot_id": id.to_string(),
                "snapshot": format!("epoch {} number {}", id.epoch(), id.n()),
                "chunk_index": chunk_index,
                "chunk_offset": chunk_offset,
            })
        }
        ManifestEvent::CustomEvent { schema_id, blob } => custom(*schema_id, blob),
        ManifestEvent::Unknown {
            type_id: _,
            payload,
        } => json!({"payload": hex::encode(payload)}),
    }
}

/// One that this release does not know is shown as it is.
fn custom(schema_id: u32, blob: &[u8]) -> Value {
    let event = match custom_event::decode(schema_id, blob) {
        None => return json!({"schema_id": schema_id, "blob": hex::encode(blob)}),
        Some(Err(damage)) => return undecodable(schema_id, &damage, blob),
        Some(Ok(event)) => event,
    };
    let mut fields = of_custom(&event);
    if let Value::Object(fields) = &mut fields {
        fields.insert("schema_id".to_owned(), schema_id.into());
        let name = custom_event::name(schema_id);
        fields.insert("schema".to_owned(), name.into());
    }
    fields
}

fn of_custom(event: &CustomEvent) -> Value {
    match event {
        CustomEvent::ProducerChanges(changes) => json!({
            "part": changes.part,
            "producers_changed": changes.producers.len(),
            "producers_forgotten_before": changes.forgotten_before,
        }),
        CustomEvent::SnapshotNote(note) => json!({
            "note_of_snapshot": note.snapshot_id.to_string(),
            "request": note.request,
            "key": note.key,
            "digest": note.digest,
            "durable_sequence": note.durable_sequence,
            "uploaded_sequence": note.uploaded_sequence,
        }),
        CustomEvent::StartSequence(start) => json!({
            "start_sequence": start.start_sequence,
            "reason": format!("{:?}", start.reason),
        }),
        CustomEvent::StreamCut(cut) => json!({
            "cut_segment": cut.segment_id,
            "cut_offset": cut.offset,
            "first_lost": cut.first_lost,
            "next_sequence": cut.next_sequence,
            "lost_bytes": cut.lost_bytes,
            "damage": cut.damage,
        }),
        CustomEvent::Compaction(event) => of_compaction(event),
        CustomEvent::SnapshotDeletion(deletion) => json!({
            "deletion_of_snapshot": deletion.snapshot_id.to_string(),
            "stage": format!("{:?}", deletion.stage),
        }),
    }
}

fn of_compaction(event: &Compaction) -> Value {
    let of = |inputs: &Inputs| {
        let Inputs {
            base_sequence,
            end_sequence,
            epoch: _,
            segment_ids,
        } = inputs;
        json!({
            "base_sequence": base_sequence,
            "end_sequence": end_sequence,
            "inputs": segment_ids,
        })
    };
    let (what, mut fields) = match event {
        Compaction::Begun(inputs) => ("begun", of(inputs)),
        Compaction::Merged(inputs, _) => ("merged", of(inputs)),
        Compaction::Failed { reason } => (
            "failed",
            json!({"reason": format!("{reason:?}"), "reason_code": reason.code()}),
        ),
        Compaction::GivenUp => ("given up", json!({})),
    };
    fields["merge"] = json!(what);
    if let Compaction::Merged(_, output) = event {
        fields["durable_bytes"] = json!(output.durable_bytes);
        fields["segment_crc64"] = json!(format!("{:016x}", output.segment_crc64));
        fields["object_bytes"] = json!(output.object_bytes);
        fields["chain"] = json!(format!("{:08x}", output.chain));
        fields["first_record_at"] = json!(render::time(output.first_unix_nanos));
        fields["last_record_at"] = json!(render::time(output.last_unix_nanos));
        fields["sealed_at"] = json!(render::time(output.sealed_unix_nanos));
    }
    fields
}
