//! What a client of the data socket sends, before `h2` has it.
//!
//! The headers of a request have to be complete in [`HEADER_LIMIT`], and so has the begin of a connection: `h2` knows no time.
//! They are put together here, and their `:authority` is made one that `h2` takes. All other bytes pass as they are, uncopied.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aof2_listen::{HEADER_BYTES, HEADER_LIMIT};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::authority;

const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length (24 bits), type, flags, stream (RFC 9113, section 4.1).
const FRAME_HEADER_BYTES: usize = 9;
/// Of a frame's payload; the engine never announces more.
const MAX_FRAME_BYTES: usize = 1 << 14;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// Frames of one block of headers.
const MAX_CONTINUATIONS: usize = 32;
const READ_BYTES: usize = 8 << 10;

/// The reading half of a connection.
pub struct Frames<S> {
    stream: S,
    passing: Passing,
    /// Read, and not decided: part of a frame's header, or frames of headers.
    held: BytesMut,
    /// Decided, and not taken by the reader.
    ready: BytesMut,
    block: Option<Block>,
    is_ended: bool,
    limit: Duration,
    /// Runs while headers, or the first frame of all, are incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The preface or the frame that is under way.
struct Passing {
    /// Bytes of it that are still to come, and may pass.
    bytes: usize,
    /// Frames that were begun.
    frames: u64,
}

/// Headers of one request, as far as they have come.
struct Block {
    flags: u8,
    stream: [u8; 4],
    priority: BytesMut,
    fields: BytesMut,
    continuations: usize,
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn after(limit: Duration) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::now() + limit))
}

impl<S> Frames<S> {
    pub fn new(stream: S) -> Frames<S> {
        Frames::with_limit(stream, HEADER_LIMIT)
    }

    fn with_limit(stream: S, limit: Duration) -> Frames<S> {
        Frames {
            stream,
            passing: Passing {
                bytes: PREFACE_BYTES,
                frames: 0,
            },
            held: BytesMut::new(),
            ready: BytesMut::new(),
            block: None,
            is_ended: false,
            limit,
            deadline: Some(after(limit)),
        }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    pub fn get(&self) -> &S {
        &self.stream
    }

    /// Takes from `held` what can be decided now.
    fn digest(&mut self) -> io::Result<()> {
        loop {
            let passed = self.passing.pass(&self.held);
            self.ready.extend_from_slice(&self.held[..passed]);
            self.held.advance(passed);
            if passed > 0 {
                self.rest();
            }
            if self.passing.bytes > 0 || self.held.len() < FRAME_HEADER_BYTES {
                return Ok(());
            }
            let (kind, length) = (self.held[3], frame_bytes(&self.held));
            // `pass` stops at these alone.
            if length > MAX_FRAME_BYTES {
                return Err(broken("a frame of headers is larger than the limit"));
            }
            if self.held.len() < FRAME_HEADER_BYTES + length {
                return Ok(());
            }
            let header = self.held.split_to(FRAME_HEADER_BYTES);
            let payload = self.held.split_to(length);
            let (flags, stream) = (header[4], [header[5], header[6], header[7], header[8]]);
            match (&mut self.block, kind) {
                (None, HEADERS) => self.block = Some(Block::begin(flags, stream, payload)?),
                (Some(block), CONTINUATION) if block.stream == stream => {
                    block.go_on(flags, &payload)?;
                }
                _ => return Err(broken("frames of headers are mixed with others")),
            }
            if let Some(block) = self.block.take_if(|block| block.flags & END_HEADERS != 0) {
                block.write(&mut self.ready);
                self.passing.frames += 1;
                self.deadline = None;
            }
        }
    }

    /// Something came that was waited for.
    fn rest(&mut self) {
        let has_begun =
            self.passing.frames > 1 || self.passing.frames == 1 && self.passing.bytes == 0;
        if has_begun && self.block.is_none() {
            self.deadline = None;
        }
    }

    /// The clock runs while something that has to be complete in time is not.
    fn watch(&mut self) {
        let is_incomplete = self.block.is_some() || !self.held.is_empty();
        if is_incomplete && self.deadline.is_none() {
            self.deadline = Some(after(self.limit));
        }
    }
}

impl Passing {
    /// How many of `bytes`, which come next, need no look. What is left begins with a frame of headers or with part of a frame's
    /// header.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let step = self.bytes.min(bytes.len() - at);
            self.bytes -= step;
            at += step;
            let rest = &bytes[at..];
            if self.bytes > 0 || rest.len() < FRAME_HEADER_BYTES {
                return at;
            }
            if matches!(rest[3], HEADERS | CONTINUATION) {
                return at;
            }
            self.bytes = FRAME_HEADER_BYTES + frame_bytes(rest);
            self.frames += 1;
        }
    }
}

fn frame_bytes(header: &[u8]) -> usize {
    usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])
}

impl Block {
    fn begin(flags: u8, stream: [u8; 4], mut payload: BytesMut) -> io::Result<Block> {
        let mut padding = 0;
        if flags & PADDED != 0 {
            if payload.is_empty() {
                return Err(broken("a padded frame of headers has no padding"));
            }
            padding = usize::from(payload.get_u8());
        }
        let priority = if flags & PRIORITY == 0 {
            BytesMut::new()
        } else if payload.len() < PRIORITY_BYTES {
            return Err(broken("a frame of headers is too short for its priority"));
        } else {
            payload.split_to(PRIORITY_BYTES)
        };
        let Some(fields) = payload.len().checked_sub(padding) else {
            return Err(broken("a frame of headers is shorter than its padding"));
        };
        payload.truncate(fields);
        Ok(Block {
            flags: flags & !PADDED,
            stream,
            priority,
            fields: payload,
            continuations: 0,
        })
    }

    fn go_on(&mut self, flags: u8, payload: &[u8]) -> io::Result<()> {
        self.flags |= flags & END_HEADERS;
        self.continuations += 1;
        if self.continuations > MAX_CONTINUATIONS
            || self.fields.len() + payload.len() > HEADER_BYTES
        {
            return Err(broken("the headers of a request are larger than the limit"));
        }
        self.fields.extend_from_slice(payload);
        Ok(())
    }

    /// As one frame, or as few.
    fn write(self, out: &mut BytesMut) {
        let tolerated = authority::tolerate(&self.fields);
        let fields = tolerated.as_deref().unwrap_or(&self.fields);
        let (first, rest) = fields.split_at(fields.len().min(MAX_FRAME_BYTES - PRIORITY_BYTES));
        let end = |is_last: bool| if is_last { END_HEADERS } else { 0 };
        let mut frame = |kind: u8, flags: u8, parts: [&[u8]; 2]| {
            let length = parts[0].len() + parts[1].len();
            out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
            out.extend_from_slice(&[kind, flags]);
            out.extend_from_slice(&self.stream);
            out.extend_from_slice(parts[0]);
            out.extend_from_slice(parts[1]);
        };
        let flags = self.flags & !END_HEADERS | end(rest.is_empty());
        frame(HEADERS, flags, [&self.priority, first]);
        let mut parts = rest.chunks(MAX_FRAME_BYTES).peekable();
        while let Some(part) = parts.next() {
            frame(CONTINUATION, end(parts.peek().is_none()), [&[], part]);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.ready.is_empty() {
                let taken = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready.split_to(taken));
                return Poll::Ready(Ok(()));
            }
            if this.is_ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(deadline) = &mut this.deadline
                && deadline.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if this.held.is_empty() && this.block.is_none() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                let read = &buf.filled()[before..];
                let passed = this.passing.pass(read);
                this.is_ended = read.is_empty();
                this.held.extend_from_slice(&read[passed..]);
                buf.set_filled(before + passed);
                if passed > 0 {
                    this.rest();
                    // The reader may be content with these: what is held is decided now.
                    this.digest()?;
                    this.watch();
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.held.reserve(READ_BYTES);
                let stream = Pin::new(&mut this.stream);
                if ready!(poll_read_buf(stream, cx, &mut this.held))? == 0 {
                    // Whatever it was, `h2` says what is missing.
                    this.is_ended = true;
                    this.ready = std::mem::take(&mut this.held);
                    continue;
                }
            }
            this.digest()?;
            this.watch();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    const LIMIT: Duration = Duration::from_millis(300);

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
        frame.extend_from_slice(payload);
        frame
    }

    fn begin() -> Vec<u8> {
        [PREFACE, &frame(4, 0, 0, &[])].concat()
    }

    /// What comes out where the client writes in pieces of so many bytes.
    async fn passed(sent: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let (mut client, server) = duplex(64);
        let sent = sent.to_vec();
        let writes = tokio::spawn(async move {
            for piece in sent.chunks(piece) {
                client.write_all(piece).await.expect("sent");
                tokio::task::yield_now().await;
            }
        });
        let mut got = Vec::new();
        let end = Frames::new(server).read_to_end(&mut got).await;
        if end.is_ok() {
            writes.await.expect("the client");
        }
        end.map(|_| got)
    }

    #[tokio::test]
    async fn every_byte_passes_whatever_the_pieces_and_headers_are_put_together() {
        let block = b"\x83\x86\x41\x0ctmp%2Fd.sock\x84";
        let good = b"\x83\x86\x41\x0ctmp-2Fd.sock\x84";
        let padded = [&[3, 0, 0, 0, 0, 7], &block[..], &[0; 3]].concat();
        let data = vec![7; 300];
        let sent = [
            begin(),
            frame(HEADERS, END_HEADERS, 1, block),
            frame(0, 1, 1, &data),
            frame(HEADERS, PADDED | PRIORITY | END_HEADERS | 1, 3, &padded),
            frame(HEADERS, 0, 5, &block[..4]),
            frame(CONTINUATION, 0, 5, &block[4..7]),
            frame(CONTINUATION, END_HEADERS, 5, &block[7..]),
            frame(6, 0, 0, &[1; 8]),
        ];
        let expected = [
            begin(),
            frame(HEADERS, END_HEADERS, 1, good),
            frame(0, 1, 1, &data),
            frame(
                HEADERS,
                PRIORITY | END_HEADERS | 1,
                3,
                &[&[0, 0, 0, 0, 7], &good[..]].concat(),
            ),
            frame(HEADERS, END_HEADERS, 5, good),
            frame(6, 0, 0, &[1; 8]),
        ];
        for piece in [1, 2, 3, 7, 9, 10, 64, 1000] {
            let got = passed(&sent.concat(), piece).await.expect("passes");
            assert_eq!(got, expected.concat(), "{piece}");
        }
    }

    /// `h2` waits for no more than a whole request.
    #[tokio::test]
    async fn a_request_in_one_piece_passes_while_its_client_waits() {
        let (mut client, server) = duplex(1000);
        let sent = [begin(), frame(HEADERS, END_HEADERS | 1, 1, &[0x83])].concat();
        client.write_all(&sent).await.expect("sent");
        let mut got = vec![0; sent.len()];
        let mut frames = Frames::new(server);
        frames.read_exact(&mut got).await.expect("all of it");
        assert_eq!(got, sent);
        assert!(frames.deadline.is_none());
    }

    #[tokio::test]
    async fn headers_beyond_the_limit_and_frames_between_them_end_the_connection() {
        let half = vec![0x20; HEADER_BYTES / 2 + 10];
        let large = [
            begin(),
            frame(HEADERS, 0, 1, &half),
            frame(CONTINUATION, 0, 1, &half),
        ];
        assert!(passed(&large.concat(), 1000).await.is_err());
        let flood = frame(CONTINUATION, 0, 1, &[]).repeat(MAX_CONTINUATIONS + 1);
        let flood = [begin(), frame(HEADERS, 0, 1, &[0x83]), flood];
        assert!(passed(&flood.concat(), 1000).await.is_err());
        let mixed = [
            begin(),
            frame(HEADERS, 0, 1, &[0x83]),
            frame(HEADERS, 4, 3, &[]),
        ];
        assert!(passed(&mixed.concat(), 1000).await.is_err());
        for payload in [vec![], vec![9, 1]] {
            let short = [begin(), frame(HEADERS, PADDED, 1, &payload)];
            assert!(passed(&short.concat(), 1000).await.is_err());
        }
    }

    async fn end_of(server: DuplexStream) -> (io::Result<usize>, Duration) {
        let begun = Instant::now();
        let end = Frames::with_limit(server, LIMIT)
            .read_to_end(&mut Vec::new())
            .await;
        (end, begun.elapsed())
    }

    #[tokio::test]
    async fn a_begin_and_headers_that_do_not_end_have_a_time() {
        let late = [
            PREFACE[..7].to_vec(),
            PREFACE.to_vec(),
            begin()[..PREFACE_BYTES + 5].to_vec(),
            [begin(), frame(HEADERS, 0, 1, &[0x83])].concat(),
            [
                begin(),
                frame(HEADERS, END_HEADERS, 1, &[0x83; 20])[..15].to_vec(),
            ]
            .concat(),
            [begin(), frame(0, 0, 1, &[])[..8].to_vec()].concat(),
        ];
        for sent in late {
            let (mut client, server) = duplex(1000);
            client.write_all(&sent).await.expect("sent");
            let (end, took) = end_of(server).await;
            assert_eq!(end.expect_err("late").kind(), io::ErrorKind::TimedOut);
            assert!(took >= LIMIT, "{sent:x?} {took:?}");
        }
    }

    #[tokio::test]
    async fn an_idle_client_stays_and_so_does_a_slow_body() {
        let (mut client, server) = duplex(1000);
        let sent = [
            begin(),
            frame(HEADERS, END_HEADERS, 1, &[0x83]),
            frame(0, 0, 1, &[1; 100])[..50].to_vec(),
        ];
        client.write_all(&sent.concat()).await.expect("sent");
        let ended = tokio::spawn(end_of(server));
        tokio::time::sleep(3 * LIMIT).await;
        // Pieces that end in the middle of a frame's header, for longer than headers may take.
        client.write_all(&[1; 59]).await.expect("sent");
        for _ in 0..100 {
            let next = frame(6, 0, 0, &[1; 8]);
            client.write_all(&next[5..]).await.expect("sent");
            tokio::time::sleep(LIMIT / 50).await;
            client.write_all(&next[..5]).await.expect("sent");
        }
        client
            .write_all(&frame(6, 0, 0, &[1; 8])[5..])
            .await
            .expect("sent");
        drop(client);
        let (end, _) = ended.await.expect("the server");
        end.expect("all of it");
    }
}
