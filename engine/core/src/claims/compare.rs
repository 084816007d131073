//! What a volume holds of its streams against what Tier 2 holds of them.
//!
//! An object of a stream's own epoch is explained when the manifest on the volume says that its upload was begun (a segment), or
//! that it is closed (a manifest chunk): both are durable there before there can be an object. One that is not explained was made by
//! a later state of this volume, so this one is older, and would give sequences a second time.
//!
//! Objects of other epochs are other owners'. Objects under a claim of another volume are, too: then the stream was taken over, which
//! is for the claims to tell.

use crate::io::in_parallel;
use crate::io::sync::Mutex;
use aof2_format::names::{ObjectKey, SegmentRef};
use aof2_format::{StreamName, VolumeId};

use super::{StreamClaims, parse, pending};
use crate::error::{ClaimError, RolledBack};
use crate::port::{LocalStream, VolumeIdentity};

/// Streams that are looked at at the same time.
const AT_ONCE: usize = 8;

impl StreamClaims {
    pub(super) fn compare_with_objects(
        &self,
        volume: &VolumeIdentity,
        streams: &[LocalStream],
    ) -> Result<(), ClaimError> {
        let found = Mutex::new(Vec::new());
        in_parallel(AT_ONCE, streams.len(), |index| {
            let proof = self.compare_stream(volume, &streams[index])?;
            found.lock().extend(proof);
            Ok(())
        })?;
        let mut proofs = found.into_inner();
        if proofs.is_empty() {
            return Ok(());
        }
        proofs.sort_by_key(|proof: &RolledBack| proof.stream().map(str::to_owned));
        Err(ClaimError::RolledBack { proofs })
    }

    fn compare_stream(
        &self,
        volume: &VolumeIdentity,
        local: &LocalStream,
    ) -> Result<Option<RolledBack>, ClaimError> {
        let name: StreamName = parse("stream name", &local.stream)?;
        let proof = match self.unexplained_segment(&name, local)? {
            Some(proof) => Some(proof),
            None => self.unexplained_chunk(&name, local)?,
        };
        match proof {
            Some(proof) if !self.is_of_another_volume(volume, &name, local.epoch)? => {
                tracing::error!("volume is older than its state in Tier 2: {proof}");
                Ok(Some(proof))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The one that goes furthest.
    fn unexplained_segment(
        &self,
        name: &StreamName,
        local: &LocalStream,
    ) -> Result<Option<RolledBack>, ClaimError> {
        let prefix = self.tier2().prefix();
        let folder = ObjectKey::segments_prefix(prefix, name);
        // What was uploaded later begins where the uploads without a hole end, or behind.
        let from = format!("{folder}{:020}", local.uploaded);
        let keys = self.tier2().store().list(&folder, Some(&from));
        for key in keys.map_err(pending)?.into_iter().rev() {
            let Some(ObjectKey::Segment { stream: _, segment }) = ObjectKey::parse(prefix, &key)
            else {
                continue;
            };
            let SegmentRef {
                base_sequence,
                epoch,
                segment_id,
            } = segment;
            if u64::from(epoch) == local.epoch && !local.uploads_begun.contains(&segment_id) {
                return Ok(Some(RolledBack::Segment {
                    stream: name.to_string(),
                    local: local.records,
                    bucket: base_sequence + 1,
                    key,
                }));
            }
        }
        Ok(None)
    }

    fn unexplained_chunk(
        &self,
        name: &StreamName,
        local: &LocalStream,
    ) -> Result<Option<RolledBack>, ClaimError> {
        let prefix = self.tier2().prefix();
        let folder = ObjectKey::manifest_prefix(prefix, name);
        let from = format!("{folder}{:010}/{:020}", local.epoch, local.chunk);
        let keys = self.tier2().store().list(&folder, Some(&from));
        let keys = keys.map_err(pending)?;
        let unexplained = keys
            .into_iter()
            .filter_map(|key| match ObjectKey::parse(prefix, &key) {
                Some(ObjectKey::ManifestChunk {
                    stream: _,
                    epoch,
                    chunk,
                }) if u64::from(epoch) == local.epoch => Some((chunk, key)),
                _ => None,
            });
        Ok(unexplained
            .max()
            .map(|(bucket, key)| RolledBack::ManifestChunk {
                stream: name.to_string(),
                local: local.chunk,
                bucket,
                key,
            }))
    }

    fn is_of_another_volume(
        &self,
        volume: &VolumeIdentity,
        name: &StreamName,
        epoch: u64,
    ) -> Result<bool, ClaimError> {
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        let Ok(epoch) = u32::try_from(epoch) else {
            return Ok(false);
        };
        let claims = self.list(&ObjectKey::claims_prefix(self.tier2().prefix(), name))?;
        if !claims.iter().any(|(_, claimed)| *claimed == epoch) {
            return Ok(false);
        }
        match self.read_claim(name, epoch) {
            Ok(claim) => Ok(claim.volume_id != volume_id),
            // Nobody says that it is another's, and this volume is at that epoch.
            Err(ClaimError::Unreadable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::claims::suite::{claims_of, volume};
    use crate::objects::memory::MemoryStore;
    use crate::objects::{ObjectStore, Upload};
    use crate::port::Claims;

    struct Bucket {
        store: Arc<dyn ObjectStore>,
        claims: StreamClaims,
    }

    fn bucket() -> Bucket {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let claims = claims_of(&store, "p/", "orders-0");
        assert_eq!(claims.claim(&volume("orders-0", 1), "s"), Ok(1));
        Bucket { store, claims }
    }

    impl Bucket {
        fn with(self, key: &str) -> Self {
            let upload = Upload::of_bytes(b"x"[..].to_vec().into(), "test".into());
            self.store.put(key, &upload).expect("put");
            self
        }

        fn with_segment(self, base: u64, epoch: u32, id: u64) -> Self {
            let key = format!("p/segments/s/{base:020}-{epoch:010}-{id:020}.aofz");
            self.with(&key)
        }

        fn check(&self, local: LocalStream) -> Result<(), ClaimError> {
            self.claims.check_streams(&volume("orders-0", 1), &[local])
        }
    }

    /// 30 records: segments 1 (0..10, uploaded), 2 (10..20, its upload was begun) and 3, which is open.
    fn local() -> LocalStream {
        LocalStream {
            stream: "s".into(),
            epoch: 1,
            records: 30,
            uploaded: 10,
            uploads_begun: [2].into(),
            chunk: 1,
        }
    }

    fn proof(checked: Result<(), ClaimError>) -> RolledBack {
        match checked {
            Err(ClaimError::RolledBack { mut proofs }) => {
                assert_eq!(proofs.len(), 1, "{proofs:?}");
                proofs.remove(0)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_manifest_explains_is_no_proof() {
        let known = bucket()
            .with_segment(0, 1, 1)
            .with_segment(10, 1, 2)
            .with("p/manifest/s/0000000001/00000000000000000000.mlog");
        assert_eq!(known.check(local()), Ok(()));
        assert_eq!(bucket().check(local()), Ok(()), "an emptied bucket");
        assert_eq!(
            bucket().check(LocalStream {
                stream: "s".into(),
                epoch: 1,
                ..LocalStream::default()
            }),
            Ok(())
        );
    }

    #[test]
    fn a_segment_that_was_never_uploaded_from_here_proves_a_later_state() {
        // Segment 3 was open when the copy was made.
        match proof(bucket().with_segment(20, 1, 3).check(local())) {
            RolledBack::Segment {
                stream,
                local,
                bucket,
                key,
            } => {
                assert_eq!((stream.as_str(), local, bucket), ("s", 30, 21));
                assert!(key.contains("00000000000000000020-0000000001"), "{key}");
            }
            other => panic!("{other:?}"),
        }
        // Far beyond, and the furthest is named.
        match proof(
            bucket()
                .with_segment(40, 1, 4)
                .with_segment(90, 1, 9)
                .check(local()),
        ) {
            RolledBack::Segment { bucket, .. } => assert_eq!(bucket, 91),
            other => panic!("{other:?}"),
        }
        // A stream that begins.
        let new = LocalStream {
            stream: "s".into(),
            epoch: 1,
            ..LocalStream::default()
        };
        match proof(bucket().with_segment(0, 1, 1).check(new)) {
            RolledBack::Segment { local, bucket, .. } => assert_eq!((local, bucket), (0, 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_chunk_that_is_not_closed_here_proves_a_later_state() {
        let newer = bucket().with("p/manifest/s/0000000001/00000000000000000001.mlog");
        match proof(newer.check(local())) {
            RolledBack::ManifestChunk { local, bucket, .. } => assert_eq!((local, bucket), (1, 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn objects_of_another_owner_are_no_proof() {
        let earlier = bucket()
            .with_segment(20, 1, 3)
            .with("p/manifest/s/0000000001/00000000000000000007.mlog");
        let under_a_later_epoch = LocalStream {
            epoch: 2,
            ..local()
        };
        assert_eq!(earlier.check(under_a_later_epoch), Ok(()));
        // Local before Tier 2 was configured, and another node has claimed the name: it is superseded, not rolled back.
        let theirs = bucket().with_segment(20, 1, 3);
        let checked = theirs
            .claims
            .check_streams(&volume("orders-7", 7), &[local()]);
        assert_eq!(checked, Ok(()));
    }

    #[test]
    fn every_stream_that_proves_it_is_named() {
        let streams: Vec<LocalStream> = (0..40)
            .map(|n| LocalStream {
                stream: format!("s-{n:02}").into(),
                ..local()
            })
            .collect();
        let mut bucket = bucket();
        for n in [3, 17, 39] {
            bucket = bucket.with(&format!(
                "p/segments/s-{n:02}/00000000000000000020-0000000001-00000000000000000003.aofz"
            ));
        }
        match bucket
            .claims
            .check_streams(&volume("orders-0", 1), &streams)
        {
            Err(ClaimError::RolledBack { proofs }) => {
                let named: Vec<_> = proofs.iter().filter_map(RolledBack::stream).collect();
                assert_eq!(named, ["s-03", "s-17", "s-39"]);
            }
            other => panic!("{other:?}"),
        }
    }
}
