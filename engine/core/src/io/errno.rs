//! What an error of the disk means for what is stored. The only place that knows error numbers.

use std::io;

/// What the machine, or the share of it that the process has, is out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    Space,
    Descriptors,
    Memory,
}

impl Lack {
    pub fn as_str(self) -> &'static str {
        match self {
            Lack::Space => "space on the volume",
            Lack::Descriptors => "file descriptors",
            Lack::Memory => "memory",
        }
    }

    pub fn remedy(self) -> &'static str {
        match self {
            Lack::Space => "free space on it or expand it",
            Lack::Descriptors => "raise the limit of open files",
            Lack::Memory => "raise the memory limit",
        }
    }
}

/// The call was not begun for want of something: nothing that was accepted is lost, and it may be tried again. Never true of a failed
/// sync, see `WatchedDisk`.
pub(crate) fn lack_of(error: &io::Error) -> Option<Lack> {
    match error.raw_os_error()? {
        libc::ENOSPC | libc::EDQUOT => Some(Lack::Space),
        libc::EMFILE | libc::ENFILE => Some(Lack::Descriptors),
        libc::ENOMEM => Some(Lack::Memory),
        _ => None,
    }
}

/// A rejection rather than a broken disk.
pub(crate) fn is_rejection(error: &io::Error) -> bool {
    lack_of(error).is_some()
}

pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    lack_of(error) == Some(Lack::Descriptors)
}

/// The device does not give the bytes back: asking again is no help. Everything else says nothing about what is stored.
pub(crate) fn is_device_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EUCLEAN | libc::ENODATA)
    )
}
