//! Server-sent events: framed on raw bytes, decoded on the side.
//!
//! [`Framer`] cuts a stream into frames (an event, or comments, with the blank line that ends it) whatever its line
//! ends are and wherever the network cut it; frames are what is forwarded, and together with the rest they are the
//! stream, byte for byte. [`EventReader`] lets eventsource-stream decode whole frames. Its line buffer has no bound and
//! it waits behind a final CR, panics on a byte order mark and stops at bytes that are not UTF-8, so what it is fed is
//! bounded and cleaned here; what is forwarded never is.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use eventsource_stream::EventStream;
use futures_util::Stream;

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// An event that is longer than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {max} bytes")]
pub struct FrameTooLarge {
    /// The bound, in bytes.
    pub max: usize,
}

/// Cuts a stream into frames.
pub struct Framer {
    max: usize,
    /// Chunks not looked at yet; the front one may be partly taken.
    chunks: VecDeque<Bytes>,
    /// The beginning of a frame from chunks that are used up. Every byte of it has been scanned.
    partial: BytesMut,
    line: LineState,
}

impl Framer {
    /// A framer for a new stream. No frame will be longer than `max_event_bytes`.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max: max_event_bytes,
            chunks: VecDeque::new(),
            partial: BytesMut::new(),
            line: LineState::default(),
        }
    }

    /// Takes bytes as the network delivered them.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole frame, its blank line included; `None` when more bytes are needed. A slice of the chunk when it
    /// lies in one, a copy when it was cut.
    ///
    /// # Errors
    /// The next frame is longer than the bound; it stays in the rest, and so does all that follows.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLarge> {
        let too_large = FrameTooLarge { max: self.max };
        if self.partial.len() > self.max {
            return Err(too_large);
        }
        while let Some(chunk) = self.chunks.front_mut() {
            let before = self.line;
            let Some(end) = self.line.scan(chunk) else {
                self.partial.extend_from_slice(chunk);
                self.chunks.pop_front();
                if self.partial.len() > self.max {
                    return Err(too_large);
                }
                continue;
            };
            if self.partial.len() + end > self.max {
                self.line = before;
                return Err(too_large);
            }
            let tail = chunk.split_to(end);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            if self.partial.is_empty() {
                return Ok(Some(tail));
            }
            self.partial.extend_from_slice(&tail);
            return Ok(Some(self.partial.split().freeze()));
        }
        Ok(None)
    }

    /// Bytes that are in no frame yet.
    pub fn pending_bytes(&self) -> usize {
        self.partial.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// What is left at the end of the stream: the beginning of a frame that never ended.
    pub fn into_rest(self) -> Bytes {
        let mut rest = self.partial;
        for chunk in self.chunks {
            rest.extend_from_slice(&chunk);
        }
        rest.freeze()
    }
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer").field("pending_bytes", &self.pending_bytes()).finish_non_exhaustive()
    }
}

/// Where in a line the scan stands.
#[derive(Clone, Copy)]
struct LineState {
    /// Bytes of a byte order mark seen at the start of the stream; 3 once that is settled.
    bom: usize,
    /// Nothing stands in this line yet.
    empty: bool,
    /// The last byte was a CR that ended a line or a frame: an LF now belongs to it.
    after_cr: bool,
    /// The stream was last seen to end lines with CR LF.
    crlf: bool,
    /// A blank line's CR was the last byte of its chunk, and in this stream its LF is sure to follow.
    held: bool,
}

impl Default for LineState {
    fn default() -> Self {
        Self { bom: 0, empty: true, after_cr: false, crlf: false, held: false }
    }
}

impl LineState {
    /// Scans a chunk from its start; the index behind the frame that ends in it. Every byte is looked at once.
    fn scan(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = chunk.get(at) {
            if self.held {
                self.held = false;
                self.empty = true;
                self.crlf = *byte == b'\n';
                return Some(at + usize::from(self.crlf));
            }
            if std::mem::take(&mut self.after_cr) && *byte == b'\n' {
                self.crlf = true;
                at += 1;
                continue;
            }
            if self.bom < BOM.len() {
                if *byte == BOM[self.bom] {
                    self.bom += 1;
                    at += 1;
                    continue;
                }
                // A mark that broke off is the beginning of an ordinary line.
                self.empty &= self.bom == 0;
                self.bom = BOM.len();
            }
            match byte {
                b'\n' => {
                    at += 1;
                    if std::mem::replace(&mut self.empty, true) {
                        return Some(at);
                    }
                    self.crlf = false;
                }
                b'\r' => {
                    at += 1;
                    let blank = std::mem::replace(&mut self.empty, true);
                    match (blank, chunk.get(at)) {
                        (true, Some(b'\n')) => {
                            self.crlf = true;
                            return Some(at + 1);
                        }
                        // Among CR LF lines the LF is on its way; waiting for it keeps the frame whole.
                        (true, None) if self.crlf => self.held = true,
                        // Otherwise waiting could hold an event back until the next one.
                        (true, next) => {
                            self.after_cr = next.is_none();
                            self.crlf = false;
                            return Some(at);
                        }
                        (false, _) => {
                            self.after_cr = true;
                            self.crlf = false;
                        }
                    }
                }
                _ => {
                    self.empty = false;
                    let text = chunk[at..].iter().position(|b| matches!(b, b'\n' | b'\r'));
                    at = text.map_or(chunk.len(), |len| at + len);
                }
            }
        }
        None
    }
}

/// A decoded event.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; `message` when it has none.
    pub name: String,
    /// Its data, lines joined by LF.
    pub data: String,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("data_bytes", &self.data.len()).finish_non_exhaustive()
    }
}

/// Decodes whole frames of one stream, in order.
pub struct EventReader {
    slot: Slot,
    events: EventStream<Slot>,
    started: bool,
}

impl Default for EventReader {
    fn default() -> Self {
        Self::new()
    }
}

impl EventReader {
    /// A reader for a new stream.
    pub fn new() -> Self {
        let slot = Slot::default();
        let mut events = EventStream::new(slot.clone());
        // It panics on a byte order mark at its start; behind a comment it no longer looks for one.
        slot.put(Bytes::from_static(b":\n"));
        let _ = Pin::new(&mut events).poll_next(&mut Context::from_waker(Waker::noop()));
        Self { events, slot, started: false }
    }

    /// The event of a frame from [`Framer::next_frame`]; `None` when it holds only comments, or no data.
    pub fn read(&mut self, frame: &Bytes) -> Option<Event> {
        let mut feed = frame.clone();
        if !std::mem::replace(&mut self.started, true) && feed.starts_with(&BOM) {
            feed = feed.slice(BOM.len()..);
        }
        if std::str::from_utf8(&feed).is_err() {
            feed = Bytes::from(String::from_utf8_lossy(&feed).into_owned());
        }
        if feed.last() == Some(&b'\r') {
            let mut ended = Vec::with_capacity(feed.len() + 1);
            ended.extend_from_slice(&feed);
            ended.push(b'\n');
            feed = Bytes::from(ended);
        }
        self.slot.put(feed);
        let mut context = Context::from_waker(Waker::noop());
        let mut event = None;
        // A frame holds at most one event; polling on to `Pending` leaves the decoder empty for the next.
        while let Poll::Ready(Some(read)) = Pin::new(&mut self.events).poll_next(&mut context) {
            if let Ok(read) = read {
                event = Some(Event { name: read.event, data: read.data });
            }
        }
        event
    }
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").finish_non_exhaustive()
    }
}

/// A byte stream that has what was last put into it, and otherwise waits. The decoder owns its input, so the two ends
/// share the slot; they are never used at once.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Bytes>>>);

impl Slot {
    fn put(&self, frame: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
    }
}

impl Stream for Slot {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(chunks: &[&[u8]]) -> (Vec<Bytes>, Bytes) {
        let mut framer = Framer::new(1 << 20);
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.push(Bytes::copy_from_slice(chunk));
            while let Some(frame) = framer.next_frame().expect("within the bound") {
                frames.push(frame);
            }
        }
        (frames, framer.into_rest())
    }

    fn events(frames: &[Bytes]) -> Vec<(String, String)> {
        let mut reader = EventReader::new();
        frames.iter().filter_map(|frame| reader.read(frame)).map(|event| (event.name, event.data)).collect()
    }

    /// The whole body at once through eventsource-stream, which is the judge.
    fn judged(body: &[u8]) -> Vec<(String, String)> {
        let mut body = [b":\n", body.strip_prefix(&BOM).unwrap_or(body)].concat();
        // It waits behind a CR for an LF; at the end of the body nothing else can follow.
        if body.ends_with(b"\r") {
            body.push(b'\n');
        }
        let mut stream = EventStream::new(futures_util::stream::iter([Ok::<_, Infallible>(body)]));
        let mut events = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(event))) = Pin::new(&mut stream).poll_next(&mut context) {
            events.push((event.event, event.data));
        }
        events
    }

    #[test]
    fn all_line_ends_make_frames() {
        for body in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
            let (found, rest) = frames(&[body.as_bytes()]);
            assert_eq!((found.len(), rest.len()), (2, 0), "{body:?}");
            let bytewise: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            assert_eq!(frames(&bytewise).0, found, "{body:?}");
        }
    }

    #[test]
    fn a_frame_is_not_held_back_for_a_line_feed_that_never_comes() {
        let (found, rest) = frames(&[b"data: a\r\r"]);
        assert_eq!((found.len(), rest.len()), (1, 0));
        assert_eq!(events(&found), [("message".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn a_cut_inside_cr_lf_leaves_the_frame_whole() {
        let (found, rest) = frames(&[b"data: a\r\n\r", b"\ndata: b\r\n", b"\r\n"]);
        assert_eq!(found, [&b"data: a\r\n\r\n"[..], &b"data: b\r\n\r\n"[..]]);
        assert!(rest.is_empty());
    }

    #[test]
    fn whole_frames_are_slices_of_their_chunk() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let mut framer = Framer::new(100);
        framer.push(chunk.clone());
        assert_eq!(framer.next_frame().expect("fits").expect("a frame").as_ptr(), chunk.as_ptr());
        assert_eq!(framer.next_frame().expect("fits").expect("a frame").as_ptr(), chunk[9..].as_ptr());
        assert_eq!(framer.next_frame(), Ok(None));
    }

    #[test]
    fn comments_are_frames_without_an_event() {
        let (found, _) = frames(&[b": OPENROUTER PROCESSING\n\ndata: a\n\n:\n\n"]);
        assert_eq!(found.len(), 3);
        assert_eq!(events(&found).len(), 1);
    }

    #[test]
    fn a_byte_order_mark_is_part_of_the_first_frame_only() {
        for body in ["\u{feff}data: a\n\ndata: b\n\n", "\u{feff}\n\u{feff}data: a\n\ndata: b\n\n"] {
            let (found, _) = frames(&[body.as_bytes()]);
            assert_eq!(events(&found), judged(body.as_bytes()));
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_stop_the_reader() {
        let (found, _) = frames(&[b"data: \xff\n\ndata: b\n\n"]);
        assert_eq!(events(&found)[1].1, "b");
    }

    #[test]
    fn p21_an_event_is_bounded_however_it_is_cut() {
        let body = [b"data: ".as_slice(), &[b'x'; 20], b"\n\n"].concat();
        for cut in 1..=body.len() {
            for (max, fits) in [(body.len(), true), (body.len() - 1, false)] {
                let mut framer = Framer::new(max);
                let mut found = Ok(None);
                for chunk in body.chunks(cut) {
                    framer.push(Bytes::copy_from_slice(chunk));
                    found = framer.next_frame();
                }
                assert_eq!(found.is_ok_and(|frame| frame.is_some()), fits, "cut {cut} max {max}");
                assert_eq!(framer.into_rest().len(), if fits { 0 } else { body.len() });
            }
        }
    }

    #[test]
    fn p21_a_long_event_in_single_bytes_is_read_in_linear_time() {
        let mut framer = Framer::new(1 << 20);
        for _ in 0..1 << 18 {
            framer.push(Bytes::from_static(b"x"));
            assert_eq!(framer.next_frame(), Ok(None));
        }
        framer.push(Bytes::from_static(b"\n\n"));
        assert_eq!(framer.next_frame().expect("fits").map(|frame| frame.len()), Some((1 << 18) + 2));
    }

    /// Pieces that streams are made of, and their traps.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("data: a".to_owned()),
            Just("data:{\"b\":\"ü👍\"}".to_owned()),
            Just("event: error".to_owned()),
            Just(": ping".to_owned()),
            Just("id: 7".to_owned()),
            Just("data".to_owned()),
            Just("\u{feff}".to_owned()),
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("\r\n".to_owned()),
            Just("\n\n".to_owned()),
            Just("\r\n\r\n".to_owned()),
            "[a-z: ]{0,4}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
    }

    fn cut(body: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut rest = body;
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle().take(body.len() + 1) {
            let (chunk, later) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = later;
        }
        chunks
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn p20_any_cut_gives_the_bytes_back_and_the_judges_events(
            body in body(),
            sizes in proptest::collection::vec(1_usize..9, 1..8),
        ) {
            let chunks = cut(&body, &sizes);
            let (found, rest) = frames(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mut whole = found.concat();
            whole.extend_from_slice(&rest);
            prop_assert_eq!(&whole, &body);
            let mut expected = judged(&body);
            let read = events(&found);
            // Among CR LF lines a last lone CR is still waiting for its LF when the stream ends.
            if rest.ends_with(b"\r") && expected.len() == read.len() + 1 {
                expected.pop();
            }
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn p21_arbitrary_bytes_come_out_as_they_went_in(
            body in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r')], 0..200),
            sizes in proptest::collection::vec(1_usize..9, 1..8),
        ) {
            let chunks = cut(&body, &sizes);
            let (found, rest) = frames(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let _ = events(&found);
            let mut whole = found.concat();
            whole.extend_from_slice(&rest);
            prop_assert_eq!(whole, body);
        }
    }
}
