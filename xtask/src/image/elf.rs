//! Whether a program can run in an image that holds nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

const INTERPRETER_SEGMENT: u32 = 3;

/// A static program names no interpreter (the dynamic loader) in its program headers.
pub fn is_static(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    is_static_elf(&bytes).with_context(|| {
        format!(
            "{} is not a 64-bit little-endian ELF program",
            program.display()
        )
    })
}

fn is_static_elf(bytes: &[u8]) -> Result<bool> {
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("wrong magic");
    }
    let field = |at: usize, length: usize| bytes.get(at..at + length).context("cut short");
    let table = u64::from_le_bytes(field(0x20, 8)?.try_into()?) as usize;
    let entry_bytes = u16::from_le_bytes(field(0x36, 2)?.try_into()?) as usize;
    let entries = u16::from_le_bytes(field(0x38, 2)?.try_into()?) as usize;
    for index in 0..entries {
        let kind = u32::from_le_bytes(field(table + index * entry_bytes, 4)?.try_into()?);
        if kind == INTERPRETER_SEGMENT {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(segment_kinds: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = segment_kinds.len() as u8;
        for kind in segment_kinds {
            let mut entry = vec![0; 56];
            entry[..4].copy_from_slice(&kind.to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    #[test]
    fn a_program_that_names_a_loader_is_not_static() {
        assert!(is_static_elf(&elf(&[1, 2])).unwrap());
        assert!(!is_static_elf(&elf(&[6, 3, 1])).unwrap());
    }

    #[test]
    fn something_else_is_refused() {
        assert!(is_static_elf(b"#!/bin/sh\n").is_err());
        assert!(is_static_elf(&elf(&[1])[..66]).is_err());
    }
}
