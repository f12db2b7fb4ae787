//! A conversation as a request to Gemini.

mod contents;
mod media;
mod request;
mod shape;
mod thinking;

pub(super) use request::{body, write_request};

/// Hints of the client's that Gemini cannot be given, each once.
#[derive(Default)]
struct Notes(Vec<&'static str>);

impl Notes {
    fn dropped(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }
}
