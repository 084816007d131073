//! What the journal knows of those whose bytes it carries, and of whoever runs it. Calls go down: from them into the journal; what comes
//! back up is in these two traits.

use std::sync::Arc;

use aof2_format::journal::Position;

use crate::io::WriteError;

/// What a round took from a member.
pub(crate) struct Taken<W> {
    /// Count of records that are durable when the round is done.
    pub durable: u64,
    /// Who is answered then.
    pub waiters: W,
    /// How many wait for the round, those of `waiters` included.
    pub width: usize,
    /// The bytes are too many for the journal, or have left memory: the member writes and syncs them in its own file.
    pub is_direct: bool,
    /// How many frames were appended to the commit.
    pub frames: u32,
}

/// One whose bytes go through the journal: a stream.
pub(crate) trait Member<D: ?Sized>: Send + Sync {
    type Waiters: Send;

    /// Takes what is staged: appends it to `commit`, or says that it is direct. The next round takes what is staged from here on.
    fn take(
        self: &Arc<Self>,
        driver: &D,
        commit: &mut Vec<u8>,
        direct_above_bytes: u64,
    ) -> Taken<Self::Waiters>;

    /// Writes and syncs what was taken and is direct.
    fn sync_direct(self: &Arc<Self>, driver: &D) -> Result<(), WriteError>;

    /// The round is done: so many records are durable.
    fn publish(&self, durable: u64);

    /// Called after every member of the round was published.
    fn answer(&self, waiters: Self::Waiters);

    /// The round failed.
    fn refuse(&self, driver: &D, waiters: Self::Waiters);

    /// No round comes any more: whoever waits for one is refused.
    fn refuse_staged(&self, driver: &D);
}

/// Whoever runs the journal: the store.
pub(crate) trait Driver: Send + Sync + 'static {
    type Member: Member<Self>;

    /// Every member, to be refused when no round comes any more.
    fn members(&self) -> Vec<Arc<Self::Member>>;

    /// How far files are synced without the journal: what a new journal file begins with.
    fn checkpoint_table(&self) -> Vec<Position>;

    /// The journal needs a file back: a checkpoint should run.
    fn ask_for_checkpoint(&self);

    /// So many bytes went into the journal.
    fn note_journaled(&self, bytes: u64);

    /// One more file should be made ahead.
    fn ask_for_file(&self);

    /// Nothing is waited for any more.
    fn is_closing(&self) -> bool;

    /// Files that are not used again may go: what they knew stands in a synced commit.
    fn ask_to_remove_outdated(&self);
}
