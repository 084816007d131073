/// Salts and identities. Not for secrets.
pub trait Rng: Send + Sync {
    fn next_u64(&self) -> u64;
    /// A version 7 UUID.
    fn uuid(&self) -> uuid::Uuid;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        assert!(
            read == Ok(bytes.len()),
            "the kernel gives 8 random bytes whenever asked"
        );
        u64::from_le_bytes(bytes)
    }

    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::now_v7()
    }
}
