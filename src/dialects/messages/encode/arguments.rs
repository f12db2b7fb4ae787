//! The arguments of a call as they come in, piece by piece.

use serde_json::value::RawValue;

use super::frames::Input;

/// What a call was given so far. Only an object counts; what follows a complete one is left out.
#[derive(Default)]
pub(super) struct Arguments {
    /// Taken in and not yet told.
    text: String,
    shape: Shape,
}

/// How far the object has come.
#[derive(Clone, Copy, Default)]
enum Shape {
    /// Nothing but white space yet.
    #[default]
    Nothing,
    /// Inside so many brackets; perhaps inside a string, perhaps behind a backslash there.
    Open {
        depth: u32,
        quoted: bool,
        escaped: bool,
    },
    Complete,
    /// It is no object.
    Other,
}

impl Arguments {
    /// Takes more in.
    pub(super) fn push(&mut self, piece: &str) {
        let piece = match self.shape {
            Shape::Nothing => piece.trim_start(),
            Shape::Complete => return,
            Shape::Open { .. } | Shape::Other => piece,
        };
        if let (Shape::Nothing, Some(first)) = (self.shape, piece.bytes().next()) {
            self.shape = match first {
                b'{' => Shape::Open { depth: 0, quoted: false, escaped: false },
                _ => Shape::Other,
            };
        }
        let end = self.scan(piece);
        // The end is behind a bracket, or behind everything.
        self.text.push_str(piece.get(..end).unwrap_or(piece));
    }

    /// How much of the piece belongs to the object.
    fn scan(&mut self, piece: &str) -> usize {
        let Shape::Open { mut depth, mut quoted, mut escaped } = self.shape else { return piece.len() };
        for (at, byte) in piece.bytes().enumerate() {
            match byte {
                _ if std::mem::take(&mut escaped) => {}
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth = depth.saturating_add(1),
                b'}' | b']' if !quoted => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.shape = Shape::Complete;
                        return at + 1;
                    }
                }
                _ => {}
            }
        }
        self.shape = Shape::Open { depth, quoted, escaped };
        piece.len()
    }

    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.shape, Shape::Complete)
    }

    /// What can be told of them now. What is no object cannot be until it is known whole.
    pub(super) fn ready(&mut self) -> Option<String> {
        match self.shape {
            Shape::Open { .. } | Shape::Complete if !self.text.is_empty() => {
                Some(std::mem::take(&mut self.text))
            }
            _ => None,
        }
    }

    /// What is left to be told when no more will come.
    pub(super) fn rest(&mut self) -> Option<String> {
        match self.shape {
            Shape::Other => match self.input() {
                Input::None {} => None,
                broken => serde_json::to_string(&broken).ok(),
            },
            Shape::Nothing | Shape::Open { .. } | Shape::Complete => self.ready(),
        }
    }

    /// All of them, if nothing was told yet.
    pub(super) fn input(&self) -> Input<'_> {
        let text = self.text.trim_end();
        match self.shape {
            Shape::Nothing => Input::None {},
            Shape::Other if matches!(text, "null" | "\"\"") => Input::None {},
            Shape::Complete => match serde_json::from_str::<&RawValue>(text) {
                Ok(object) => Input::Whole(object),
                Err(_) => Input::Broken { raw: text },
            },
            Shape::Open { .. } | Shape::Other => Input::Broken { raw: text },
        }
    }
}
