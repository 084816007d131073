//! One thing that is done to a data directory.

use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fixture::Fixture;

/// Of flipped bytes, one of so many is tried in CI: a prime, so that no field is always passed over.
const STRIDE: usize = 11;
/// The same of bytes that are like the one before them: zeroes, the filling of payloads.
const FILLING_STRIDE: usize = 401;

#[derive(Clone, Debug)]
pub struct Mutation {
    /// Below the data directory.
    path: PathBuf,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Flip {
        offset: u64,
        mask: u8,
    },
    Cut {
        bytes: u64,
    },
    Remove,
    /// A directory without its entries.
    Empty,
    /// The same file at an earlier time.
    Older {
        bytes: Vec<u8>,
    },
}

impl Mutation {
    pub fn remove(path: &Path) -> Mutation {
        Mutation {
            path: path.to_owned(),
            change: Change::Remove,
        }
    }

    pub fn empty(path: &Path) -> Mutation {
        Mutation {
            path: path.to_owned(),
            change: Change::Empty,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The stream whose own file or directory it is.
    pub fn stream(&self) -> Option<&str> {
        let mut parts = self.path.components().map(|part| part.as_os_str());
        (parts.next()? == "streams").then(|| parts.next()?.to_str())?
    }

    pub fn kind_of_file(&self) -> String {
        let name = self.path.file_name().unwrap().to_string_lossy();
        let kind = match name.rsplit_once('.') {
            Some((stem, kind))
                if stem
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'-') =>
            {
                kind.to_owned()
            }
            _ => name.into_owned(),
        };
        let change = match &self.change {
            Change::Flip { .. } => "flipped",
            Change::Cut { .. } => "cut",
            Change::Remove => "removed",
            Change::Empty => "emptied",
            Change::Older { .. } => "older",
        };
        format!("{kind} {change}")
    }

    pub fn apply(&self, root: &Path) {
        let path = root.join(&self.path);
        let open = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .unwrap()
        };
        match &self.change {
            Change::Flip { offset, mask } => {
                let (file, mut byte) = (open(), [0]);
                file.read_exact_at(&mut byte, *offset).unwrap();
                file.write_all_at(&[byte[0] ^ mask], *offset).unwrap();
            }
            Change::Cut { bytes } => open().set_len(*bytes).unwrap(),
            Change::Remove if path.is_dir() => std::fs::remove_dir_all(&path).unwrap(),
            Change::Remove => std::fs::remove_file(&path).unwrap(),
            Change::Empty => {
                std::fs::remove_dir_all(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }
            Change::Older { bytes } => std::fs::write(&path, bytes).unwrap(),
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.change {
            Change::Flip { offset, mask } => {
                write!(f, "{path}: byte {offset} flipped by {mask:#x}")
            }
            Change::Cut { bytes } => write!(f, "{path}: cut to {bytes}"),
            Change::Remove => write!(f, "{path}: removed"),
            Change::Empty => write!(f, "{path}: emptied"),
            Change::Older { bytes } => write!(f, "{path}: its older self of {} bytes", bytes.len()),
        }
    }
}

pub fn of_file(fixture: &Fixture, file: &Path, is_exhaustive: bool, mutations: &mut Vec<Mutation>) {
    let bytes = std::fs::read(fixture.data().join(file)).unwrap();
    let mut push = |change| {
        mutations.push(Mutation {
            path: file.to_owned(),
            change,
        })
    };
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    for (index, byte) in bytes.iter().enumerate() {
        // Far behind what was written nothing can matter; near it, it can.
        let is_near = index < written + 9000;
        let is_filling = index > 0 && bytes[index - 1] == *byte;
        let stride = match is_filling {
            true => FILLING_STRIDE,
            false => STRIDE,
        };
        if is_near && (is_exhaustive || index % stride == 0) {
            push(Change::Flip {
                offset: index as u64,
                mask: if index % 2 == 0 { 0x01 } else { 0x80 },
            });
        }
    }
    let step = if is_exhaustive { 1 } else { 1021 };
    let cuts = (0..bytes.len().min(written + 1000)).step_by(step);
    let ends = [
        written.saturating_sub(1),
        written,
        bytes.len().saturating_sub(1),
    ];
    for length in cuts.chain(ends).filter(|length| *length < bytes.len()) {
        push(Change::Cut {
            bytes: length as u64,
        });
    }
    push(Change::Remove);
    let old = fixture.old().join(file);
    if let Ok(older) = std::fs::read(old)
        && older != bytes
    {
        push(Change::Older { bytes: older });
    }
}
