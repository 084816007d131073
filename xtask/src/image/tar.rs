//! A tar archive (ustar) that depends on nothing but its entries: no clock, no owner, no order of a directory listing.

use std::io::{self, Write};

const BLOCK_BYTES: usize = 512;

pub struct Archive<W: Write> {
    into: W,
}

impl<W: Write> Archive<W> {
    pub fn new(into: W) -> Self {
        Self { into }
    }

    pub fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.header(&format!("{path}/"), mode, 0, b'5', "")
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.header(path, mode, content.len() as u64, b'0', "")?;
        self.into.write_all(content)?;
        let rest = content.len() % BLOCK_BYTES;
        if rest > 0 {
            self.into.write_all(&[0; BLOCK_BYTES][rest..])?;
        }
        Ok(())
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.header(path, 0o777, 0, b'2', target)
    }

    /// Two empty blocks end an archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.into.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.into.flush()?;
        Ok(self.into)
    }

    fn header(
        &mut self,
        path: &str,
        mode: u32,
        bytes: u64,
        kind: u8,
        target: &str,
    ) -> io::Result<()> {
        let mut block = [0u8; BLOCK_BYTES];
        let mut put = |at: usize, room: usize, text: &str| {
            if text.len() > room {
                return Err(io::Error::other(format!(
                    "`{text}` does not fit into a tar header"
                )));
            }
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
            Ok(())
        };
        put(0, 100, path)?;
        put(100, 8, &format!("{mode:07o}\0"))?;
        put(108, 8, "0000000\0")?; // owner
        put(116, 8, "0000000\0")?; // group
        put(124, 12, &format!("{bytes:011o}\0"))?;
        put(136, 12, "00000000000\0")?; // time
        put(148, 8, "        ")?; // the checksum counts itself as blanks
        put(157, 100, target)?;
        put(257, 8, "ustar\x0000")?;
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.into.write_all(&block)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn example() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.folder("tmp", 0o1777).unwrap();
        archive.file("usr/bin/tool", 0o755, &[7; 700]).unwrap();
        archive.symlink("bin", "usr/bin").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn the_systems_tar_reads_what_we_write() {
        let mut tar = Command::new("tar")
            .args(["--numeric-owner", "-tvf", "-"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        io::Write::write_all(&mut tar.stdin.take().unwrap(), &example()).unwrap();
        let listing = tar.wait_with_output().unwrap();
        assert!(listing.status.success());
        let listing = String::from_utf8(listing.stdout).unwrap();
        let words: Vec<Vec<&str>> = listing
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[0],
            ["drwxrwxrwt", "0/0", "0", "1970-01-01", "00:00", "tmp/"]
        );
        assert_eq!(
            words[1],
            [
                "-rwxr-xr-x",
                "0/0",
                "700",
                "1970-01-01",
                "00:00",
                "usr/bin/tool"
            ]
        );
        assert_eq!(words[2][5..], ["bin", "->", "usr/bin"]);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file(&"x".repeat(101), 0o644, b"").is_err());
    }
}
