//! Writing server-sent events.

use serde::Serialize;

/// Appends one event to `out`: its name if it has one, its data as JSON on one line, and the blank line that ends it.
pub fn write_frame(name: Option<&str>, data: &impl Serialize, out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, data).expect("what is written here has string keys and finite numbers");
    out.extend_from_slice(b"\n\n");
}
