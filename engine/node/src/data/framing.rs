//! Where messages begin and end in the body of a call.

/// Of gRPC: a flag, and the length of what follows.
pub const HEADER_BYTES: usize = 5;

#[derive(Default)]
pub struct Framing {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Of the message whose header is complete.
    length: usize,
    missing_bytes: usize,
}

/// What of one message is in a piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub bytes: usize,
    /// Of the whole message, its header left out. `None` while the header is not complete.
    pub length: Option<usize>,
    /// The last byte of the part is the message's last.
    pub ends: bool,
}

impl Framing {
    /// What `bytes` begin with.
    pub fn next(&mut self, bytes: &[u8]) -> Part {
        let begun = self.header_bytes;
        let header = (HEADER_BYTES - begun).min(bytes.len());
        self.header[begun..begun + header].copy_from_slice(&bytes[..header]);
        self.header_bytes += header;
        if self.header_bytes < HEADER_BYTES {
            return Part {
                bytes: header,
                length: None,
                ends: false,
            };
        }
        if begun < HEADER_BYTES {
            let [_, length @ ..] = self.header;
            self.length = u32::from_be_bytes(length) as usize;
            self.missing_bytes = self.length;
        }
        let part = self.missing_bytes.min(bytes.len() - header);
        self.missing_bytes -= part;
        let ends = self.missing_bytes == 0;
        if ends {
            self.header_bytes = 0;
        }
        Part {
            bytes: header + part,
            length: Some(self.length),
            ends,
        }
    }
}
