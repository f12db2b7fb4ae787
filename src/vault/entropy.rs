//! Random bytes and base62 texts from the operating system's generator.

use zeroize::Zeroizing;

/// The digits of our base 62, in the order of their values.
pub(super) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bytes at and above this are thrown away: 248 is the largest multiple of 62 in a byte, and `byte % 62` over the whole
/// range would favour the first eight digits.
const UNBIASED_BELOW: u8 = 248;

/// Fills `bytes`.
pub(super) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect(
        "the kernel's generator does not fail once it is seeded, and no secret may be made without it",
    );
}

/// Fills `text` with uniformly distributed base62 digits.
pub(super) fn fill_base62(text: &mut [u8]) {
    let mut pool = Zeroizing::new([0_u8; 64]);
    let mut filled = 0;
    while filled < text.len() {
        fill(&mut pool[..]);
        for byte in pool.iter().filter(|byte| **byte < UNBIASED_BELOW) {
            let Some(place) = text.get_mut(filled) else { break };
            *place = BASE62[usize::from(byte % 62)];
            filled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_about_equally_frequent() {
        let mut text = vec![0_u8; 62_000];
        fill_base62(&mut text);
        for digit in BASE62 {
            let count = text.iter().filter(|byte| *byte == digit).count();
            // Mean 1000, standard deviation 31: eight of them on either side.
            assert!((750..1250).contains(&count), "{}: {count}", char::from(*digit));
        }
    }
}
