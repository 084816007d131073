//! CRC-32C for everything that is read back whole, CRC-64/NVME for segments end to end (it is what S3 checks too).
//!
//! A seeded CRC-32C is the CRC of `salt || bytes`: the state after the salt is computed once per file or stream ([`Seed`]).

use crc_fast::{CrcAlgorithm, Digest};

use crate::damage::Damage;

/// 64 random bits, drawn when a stream is created or a journal file is taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Salt(pub u64);

/// A CRC-32C register that has consumed a salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    state: u64,
}

impl Seed {
    pub fn new(salt: Salt) -> Self {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&salt.0.to_le_bytes());
        Self {
            state: digest.get_state(),
        }
    }

    /// CRC-32C of `salt || bytes`.
    pub fn crc32c(self, bytes: &[u8]) -> u32 {
        count(bytes);
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.state);
        digest.update(bytes);
        digest.finalize() as u32
    }

    /// CRC-32C of `salt || a || b`.
    pub fn crc32c_of_two(self, a: &[u8], b: &[u8]) -> u32 {
        count(a);
        count(b);
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.state);
        digest.update(a);
        digest.update(b);
        digest.finalize() as u32
    }
}

impl From<Salt> for Seed {
    fn from(salt: Salt) -> Self {
        Self::new(salt)
    }
}

/// Unseeded CRC-32C.
pub fn crc32c(bytes: &[u8]) -> u32 {
    count(bytes);
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-64/NVME.
pub fn crc64nvme(bytes: &[u8]) -> u64 {
    count(bytes);
    crc_fast::crc64_nvme(bytes)
}

/// CRC-32C over pieces.
pub struct Crc32c(Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    pub fn update(&mut self, bytes: &[u8]) {
        count(bytes);
        self.0.update(bytes);
    }

    pub fn finish(&self) -> u32 {
        self.0.finalize() as u32
    }
}

/// CRC-64/NVME over pieces.
pub struct Crc64Nvme(Digest);

impl Default for Crc64Nvme {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl Crc64Nvme {
    pub fn update(&mut self, bytes: &[u8]) {
        count(bytes);
        self.0.update(bytes);
    }

    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

#[cfg(feature = "testing")]
thread_local! {
    static CHECKSUMMED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(feature = "testing")]
fn count(bytes: &[u8]) {
    CHECKSUMMED.set(CHECKSUMMED.get() + bytes.len() as u64);
}

#[cfg(not(feature = "testing"))]
fn count(_bytes: &[u8]) {}

/// Bytes that the calling thread has passed over with a checksum so far. Tests count work by it.
#[cfg(feature = "testing")]
pub fn checksummed_bytes() -> u64 {
    CHECKSUMMED.get()
}

/// Compares, except in a fuzzer, which would never get past a checksum.
pub(crate) fn compare(what: &'static str, stored: u64, computed: u64) -> Result<(), Damage> {
    if stored == computed || cfg!(fuzzing) {
        return Ok(());
    }
    Err(Damage::Checksum {
        what,
        stored,
        computed,
    })
}
