//! Giving up the damaged end of a stream.

use aof2_format::cut::StreamCut;
use aof2_format::names::file;
use thiserror::Error;

use super::Store;
use crate::error::StoreError;
use crate::io::{FileClass, replace_file};
use crate::segment::files;

/// Why nothing is cut.
#[derive(Debug, Error)]
pub enum CutError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("stream {stream} accepts appends; only a stream whose end is damaged can be cut")]
    NotDamaged { stream: String },
    #[error("stream {stream} cannot be cut: {damage}; restore its files from a copy of the volume")]
    NotAtItsEnd { stream: String, damage: String },
    #[error(
        "stream {stream} is damaged from sequence {found}, not {asked}; run the command without --yes and read what it would cut"
    )]
    OtherSequence {
        stream: String,
        found: u64,
        asked: u64,
    },
}

impl Store {
    /// What a cut of this stream would give up.
    pub fn possible_cut(&self, stream: &str) -> Result<StreamCut, CutError> {
        let found = self.known(stream)?;
        match (&found.possible_cut, &found.damaged_end) {
            (Some(cut), _) => Ok(cut.clone()),
            (None, Some(damage)) => Err(CutError::NotAtItsEnd {
                stream: stream.to_owned(),
                damage: damage.clone(),
            }),
            (None, None) => Err(CutError::NotDamaged {
                stream: stream.to_owned(),
            }),
        }
    }

    /// Directory that keeps what was taken out of service.
    pub fn quarantine_of(&self, stream: &str) -> String {
        let stream = self
            .known(stream)
            .map(|it| files::quarantine(&it.directory));
        stream.map_or_else(|_| String::new(), |path| path.display().to_string())
    }

    /// Gives up everything from sequence `at` on, which has to be the first that is lost. Durable when it returns; the next start of
    /// this volume does it.
    pub fn cut(&self, stream: &str, at: u64) -> Result<StreamCut, CutError> {
        let cut = self.possible_cut(stream)?;
        if cut.first_lost != at {
            return Err(CutError::OtherSequence {
                stream: stream.to_owned(),
                found: cut.first_lost,
                asked: at,
            });
        }
        let path = self.known(stream)?.directory.join(file::CUT);
        let disk = &self.pipeline().common.env.disk;
        replace_file(&**disk, &path, &cut.encode(), FileClass::Other).map_err(|source| {
            let what = format!("the cut of stream {stream}");
            StoreError::of_lack(&source, what).unwrap_or_else(|| StoreError::Damaged {
                stream: stream.to_owned(),
                message: format!("cannot write {}: {source}", path.display()),
            })
        })?;
        Ok(cut)
    }
}
