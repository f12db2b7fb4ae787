//! How the tokens that we hand out are written: `<prefix><id: 12 base62>_<secret: 43 base62><crc32: 6 base62>`.
//!
//! The id is not secret and names the token in lists and logs. The secret has 256 bits. The checksum refuses typing
//! errors and noise before anything is looked up, and it covers the prefix: one kind never passes for another.

use zeroize::Zeroizing;

use super::entropy::{self, BASE62};

const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// One kind of token.
pub(super) struct Shape {
    /// What every token of the kind begins with, its last `_` included.
    pub prefix: &'static str,
}

impl Shape {
    const fn id_end(&self) -> usize {
        self.prefix.len() + ID_LENGTH
    }

    /// Where the checksum begins; everything before it is summed.
    pub const fn checksum_start(&self) -> usize {
        self.id_end() + 1 + SECRET_LENGTH
    }

    /// Length of every token of the kind, in bytes.
    pub const fn length(&self) -> usize {
        self.checksum_start() + CHECKSUM_LENGTH
    }

    /// A new token, and the id inside it.
    pub fn generate(&self) -> (Zeroizing<String>, String) {
        let (id, secret) = (self.prefix.len()..self.id_end(), self.id_end() + 1..self.checksum_start());
        let mut text = Zeroizing::new(vec![b'_'; self.length()]);
        text[..self.prefix.len()].copy_from_slice(self.prefix.as_bytes());
        entropy::fill_base62(&mut text[id.clone()]);
        entropy::fill_base62(&mut text[secret]);
        let sum = checksum(&text[..self.checksum_start()]);
        text[self.checksum_start()..].copy_from_slice(&sum);
        let text = std::str::from_utf8(&text).expect("base62 and underscores are ASCII");
        (Zeroizing::new(text.to_owned()), text[id].to_owned())
    }

    /// Whether `text` has the shape and the checksum of the kind. Allocates nothing, and a text of another length is not
    /// even read.
    pub fn well_formed(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let digits = |range: &[u8]| range.iter().all(u8::is_ascii_alphanumeric);
        text.len() == self.length()
            && text.starts_with(self.prefix.as_bytes())
            && digits(&text[self.prefix.len()..self.id_end()])
            && text[self.id_end()] == b'_'
            && digits(&text[self.id_end() + 1..])
            && text[self.checksum_start()..] == checksum(&text[..self.checksum_start()])
    }

    /// The non-secret id inside a well-formed token; `None` for anything else.
    pub fn id<'a>(&self, text: &'a str) -> Option<&'a str> {
        if self.well_formed(text) { text.get(self.prefix.len()..self.id_end()) } else { None }
    }
}

/// CRC-32 in base62, padded with zeros: 62⁶ is more than 2³².
pub(super) fn checksum(text: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(text) as usize;
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32_of_everything_before_it() {
        // The check value of CRC-32 is 0xCBF43926 = 3421780262.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        assert_eq!(&checksum(b""), b"000000");
    }
}
