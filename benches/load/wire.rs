//! As much of HTTP/1.1 as the mock and the loader need to understand each other and a proxy in between.

/// A message's head, read.
pub struct Head {
    /// Its length with the empty line.
    pub length: usize,
    /// Status of an answer; 0 in a request.
    pub status: u16,
    /// How the body is framed.
    pub framing: Framing,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(usize),
    /// In chunks.
    Chunked,
}

/// Reads the head at the start of `bytes`; `None` while it is incomplete.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let length = find(bytes, b"\r\n\r\n")? + 4;
    let mut lines = bytes[..length].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?)).unwrap_or(0);
    let mut framing = Framing::Length(0);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            framing = Framing::Length(number(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = Framing::Chunked;
        }
    }
    Some(Head { length, status: u16::try_from(status).unwrap_or(0), framing })
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// One chunk of a chunked body.
pub fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// What ends a chunked body.
pub const LAST_CHUNK: &str = "0\r\n\r\n";

/// What the start of a chunked body's bytes is.
pub enum Piece {
    /// Not enough bytes yet.
    Incomplete,
    /// A chunk whose data begin at `start` and end at `end`; the next one begins at `next`.
    Data { start: usize, end: usize, next: usize },
    /// The end, after so many bytes.
    End(usize),
    /// Not a chunk at all.
    Broken,
}

/// Reads the piece at the start of `bytes`.
pub fn piece(bytes: &[u8]) -> Piece {
    let Some(line) = bytes.iter().take(20).position(|byte| *byte == b'\n') else {
        return if bytes.len() < 20 { Piece::Incomplete } else { Piece::Broken };
    };
    let size = std::str::from_utf8(bytes[..line].trim_ascii()).ok();
    let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else { return Piece::Broken };
    let (start, next) = (line + 1, line + 1 + size + 2);
    if bytes.len() < next {
        Piece::Incomplete
    } else if size == 0 {
        Piece::End(next)
    } else {
        Piece::Data { start, end: start + size, next }
    }
}
