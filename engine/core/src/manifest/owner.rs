//! What a manifest knows of the stream that it is of, and asks of it.

use std::path::Path;
use std::sync::Arc;

use aof2_format::StreamName;

use crate::common::Common;
use crate::identity::StreamIdentity;
use crate::journal::ManifestFrame;
use crate::journal::round::Ended;
use crate::manifest::base::BaseOwner;

pub(crate) trait Owner {
    fn common(&self) -> &Common;
    fn name(&self) -> &StreamName;
    fn shared_name(&self) -> &Arc<str>;
    fn identity(&self) -> &StreamIdentity;
    fn directory(&self) -> &Path;
    fn epoch(&self) -> u32;
    /// Hands a frame to the next round of the journal, and answers its number.
    fn enlist(&self, frame: ManifestFrame) -> u64;
    fn wait_for_round(&self, round: u64) -> Result<(), Ended>;
    /// The next checkpoint settles this manifest.
    fn mark_dirty(&self);

    /// Whose base it has to be.
    fn of_base(&self) -> BaseOwner<'_> {
        BaseOwner {
            cluster_id: self.common().ids.cluster_id,
            stream: self.name(),
            uuid: self.identity().uuid,
            salt: self.identity().salt,
        }
    }
}
