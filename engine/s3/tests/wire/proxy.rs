//! An HTTP proxy before the S3 server that does to each request what a test tells it to. One request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aof2_s3::{S3Settings, S3Store};

use crate::common::server;

pub struct Request {
    pub method: String,
    pub path: String,
    head: String,
    body_bytes: usize,
}

impl Request {
    /// `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.to_ascii_lowercase() == name).then(|| value.trim())
        })
    }
}

#[derive(Clone, Debug)]
pub enum Act {
    Pass,
    /// With this header in the answer.
    PassWith(&'static str),
    Refuse(u16, &'static str),
    /// Succeeds, with this document.
    Answer(&'static str),
    /// The body is taken at so many bytes per second.
    Paced(u64),
    /// Nothing is read, and nothing answered.
    Hang,
    /// The last byte of the body arrives as another one.
    Damage,
    Flood(Flood),
}

/// Answers a body of this length, or one without an announced end. Counts what it got rid of.
#[derive(Clone, Debug, Default)]
pub struct Flood {
    pub announced: Option<u64>,
    pub sent: Arc<AtomicU64>,
    pub is_over: Arc<AtomicBool>,
}

impl Flood {
    fn send(&self, client: &mut TcpStream) -> std::io::Result<()> {
        let length = match self.announced {
            Some(length) => format!("Content-Length: {length}\r\n"),
            None => String::new(),
        };
        write!(
            client,
            "HTTP/1.1 200 It\r\n{length}Connection: close\r\n\r\n"
        )?;
        let piece = [7; 16 << 10];
        while self.sent.load(Ordering::SeqCst) < self.announced.unwrap_or(1 << 30) {
            client.write_all(&piece)?;
            self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// A store behind a proxy, and what came by: `METHOD path`.
pub struct Proxied {
    pub store: S3Store,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxied {
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

pub fn proxied(
    change: impl FnOnce(S3Settings) -> S3Settings,
    act: impl Fn(&Request) -> Act + Send + Sync + 'static,
) -> Proxied {
    let bucket = server().new_bucket();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let endpoint = start(seen.clone(), Arc::new(act));
    let settings = S3Settings {
        endpoint: Some(endpoint),
        ..server().settings(&bucket)
    };
    Proxied {
        store: S3Store::open(change(settings)).expect("opens"),
        seen,
    }
}

fn start(seen: Arc<Mutex<Vec<String>>>, act: Arc<dyn Fn(&Request) -> Act + Send + Sync>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (seen, act) = (seen.clone(), act.clone());
            std::thread::spawn(move || {
                // A client that gave up is no fault of the proxy.
                let _ = serve(client, &seen, &*act);
            });
        }
    });
    endpoint
}

fn serve(
    mut client: TcpStream,
    seen: &Mutex<Vec<String>>,
    act: &dyn Fn(&Request) -> Act,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split(' ');
    let mut request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        head: head.clone(),
        body_bytes: 0,
    };
    request.body_bytes = request
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    seen.lock()
        .expect("no panic")
        .push(format!("{} {}", request.method, request.path));
    let act = act(&request);
    if matches!(act, Act::Hang) {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        return Ok(());
    }
    let mut body = vec![0; request.body_bytes];
    match act {
        Act::Paced(rate) => {
            for piece in body.chunks_mut(16 << 10) {
                reader.read_exact(piece)?;
                std::thread::park_timeout(Duration::from_secs_f64(
                    piece.len() as f64 / rate as f64,
                ));
            }
        }
        _ => reader.read_exact(&mut body)?,
    }
    match act {
        Act::Refuse(status, code) => {
            let text = if request.method == "HEAD" {
                String::new()
            } else {
                format!(
                    "<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
                )
            };
            return answer_with(&mut client, status, &text);
        }
        Act::Answer(document) => return answer_with(&mut client, 200, document),
        Act::Flood(flood) => {
            let sent = flood.send(&mut client);
            flood.is_over.store(true, Ordering::SeqCst);
            return sent;
        }
        Act::Damage => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
        }
        Act::Pass | Act::PassWith(_) | Act::Paced(_) | Act::Hang => {}
    }
    let mut upstream = TcpStream::connect(server().endpoint.trim_start_matches("http://"))?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if let Act::PassWith(header) = act {
        answer = with_header(&answer, header);
    }
    client.write_all(&answer)
}

fn answer_with(client: &mut TcpStream, status: u16, text: &str) -> std::io::Result<()> {
    let length = text.len();
    write!(
        client,
        "HTTP/1.1 {status} It\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

/// The only one of its name.
fn with_header(answer: &[u8], header: &str) -> Vec<u8> {
    let name = |line: &str| line.split(':').next().map(str::to_ascii_lowercase);
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
    let (head, rest) = answer.split_at(end.unwrap_or(answer.len()));
    let head = String::from_utf8_lossy(head);
    let lines = head.split("\r\n").filter(|line| name(line) != name(header));
    let mut lines: Vec<&str> = lines.collect();
    lines.push(header);
    [lines.join("\r\n").as_bytes(), rest].concat()
}
