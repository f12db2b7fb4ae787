//! The nearest known name, for people who mistyped one.

/// The candidate with the fewest edits from `name`, if at most a third of its letters differ.
pub(super) fn nearest(
    name: &str,
    candidates: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let (distance, nearest) = candidates
        .into_iter()
        .map(|candidate| (distance(name.as_bytes(), candidate.as_bytes()), candidate))
        .min()?;
    (distance <= nearest.len().max(name.len()) / 3).then_some(nearest)
}

/// Levenshtein's distance in bytes; every known name is ASCII.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substitute = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_neighbour_and_a_stranger_none() {
        let names = ["server.listen", "server.data_dir", "log.filter"];
        assert_eq!(nearest("server.lisen", names), Some("server.listen"));
        assert_eq!(nearest("log.fliter", names), Some("log.filter"));
        assert_eq!(nearest("telemetry.sample", names), None);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
